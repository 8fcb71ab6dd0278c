"""``azure-cloudshell token``. Standard library only, unless ``--fallback`` has to ask others."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from .._endpoint import acquisition, audiences, exchange, failures, protocol, scopes
from .._endpoint.acquisition import RetryPolicy
from .._endpoint.environment import Endpoint, Environment, is_led_to_a_broker
from .._endpoint.failures import Failure
from .._endpoint.protocol import NoReply, Reply
from .._endpoint.text import quoted
from .._endpoint.token import Token, wrong_tenant
from .._version import __version__
from . import _git as git
from ._errors import CommandError
from ._formats import FORMS, formatted
from ._parser import Parser, resource, timeout
from ._progress import Progress
from ._shells import SHELLS

HEADERS = {**protocol.HEADERS, "User-Agent": f"azure-cloudshell/{__version__}"}
DEFAULT_TIMEOUT = 30.0
_SIGN_IN = f"S{failures.SIGN_IN[1:]}"
EXAMPLES = (
    "azure-cloudshell token",
    "azure-cloudshell token vault --output json",
    "azure-cloudshell token -o header | curl -H @- 'https://management.azure.com/subscriptions?api-version=2022-12-01'",
    'eval "$(azure-cloudshell token graph --output env)"',
    "azure-cloudshell token aks --output exec-credential --fallback    # in a kubeconfig",
    "git config --global credential.https://dev.azure.com.helper"
    " '!azure-cloudshell token devops -o git-credential --fallback'",
)
_TRY_AGAIN = {
    "refused": "restart Cloud Shell",
    "portal": "keep the browser tab with Cloud Shell open and active and add --wait, which keeps trying",
    "timeout": "keep the browser tab with Cloud Shell open and active and try again",
}


def add_arguments(parser: Parser) -> None:
    """What the command takes."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "resource",
        nargs="?",
        type=resource,
        metavar="RESOURCE",
        help="a URI, an application id, or a short name (arm, graph, vault, storage, sql, ...); default: arm",
    )
    which.add_argument("--resource-type", dest="resource_type", metavar="NAME", help="a short name, as az has it")
    which.add_argument(
        "--resource", dest="resource_uri", type=resource, metavar="URI", help="the resource, sent unchanged"
    )
    which.add_argument("--scope", type=resource, help="a scope, such as https://vault.azure.net/.default")
    parser.add_argument(
        "--output",
        "-o",
        type=_form,
        choices=FORMS,
        default="token",
        metavar="FORM",
        help=f"{', '.join(FORMS)}; default: token, and nothing else",
    )
    parser.add_argument("--shell", choices=SHELLS, help="syntax of --output env; default: the calling shell's")
    parser.add_argument("--tenant", metavar="ID", help="the tenant the token must be for")
    parser.add_argument(
        "--timeout", type=timeout, metavar="SECONDS", help=f"give up after this long ({DEFAULT_TIMEOUT:g})"
    )
    parser.add_argument(
        "--wait", action="store_true", help="keep trying while the portal in the browser does not answer"
    )
    parser.add_argument(
        "--fallback",
        action="store_true",
        help="if Cloud Shell has no token, try the default chain (az login and others)",
    )
    parser.last_words = git.ACTIONS


def _form(text: str) -> str:
    # az's word for the bare token.
    return "token" if text == "tsv" else text


def run(arguments: argparse.Namespace) -> int:
    """Print a token in the form requested."""
    environment = Environment(os.environ)
    if arguments.last_word and arguments.output != "git-credential":
        raise CommandError(f"{arguments.last_word!r} is for --output git-credential.", 2)
    resource = resource_of(arguments, environment.cloud)
    if arguments.output == "git-credential" and not git.wants_password(arguments.last_word):
        return 0
    if environment.endpoint is None:
        outcome: Token | Failure = failures.not_in_cloud_shell(environment.refusal, environment.other_host)
    else:
        outcome = _ask_patiently(environment.endpoint, resource, arguments)
    if isinstance(outcome, Token):
        outcome = wrong_tenant(resource, outcome, arguments.tenant, environment.tenant_id) or outcome
    if isinstance(outcome, Failure):
        # Nobody is asked after a broker.
        if not arguments.fallback or is_led_to_a_broker(os.environ):
            raise CommandError(f"{outcome.what} {_advice(outcome, environment, arguments.tenant)}".rstrip())
        outcome = _fallback_token(resource, outcome, environment, arguments)
    # In one write, also where Python does not buffer: `| grep -q` is gone after its first match.
    sys.stdout.write(f"{formatted(outcome, arguments.output, arguments.shell)}\n")
    return 0


def resource_of(arguments: argparse.Namespace, cloud: str | None) -> str:
    """The resource that the arguments name.

    :raises CommandError: if they name none.
    """
    default = "devops" if arguments.output == "git-credential" else "arm"
    text: str = arguments.scope or arguments.resource_uri or arguments.resource_type or arguments.resource or default
    try:
        if scopes.is_bare_permission(text) and not arguments.resource_uri:
            return scopes.scope_to_resource(text)
        resource = audiences.resource_named(text, audiences.cloud_named(cloud))
        return resource if arguments.resource_uri else scopes.scope_to_resource(resource)
    except ValueError as error:
        raise CommandError(str(error), 2) from None


def ask(
    endpoint: Endpoint,
    resource: str,
    policy: RetryPolicy,
    on_retry: Callable[[float, Failure], None] | None = None,
) -> Token | Failure:
    """Ask the endpoint, over the bare exchange."""

    def send(resource: str, seconds: float) -> Reply | NoReply:
        return exchange.post(endpoint, HEADERS, protocol.form(resource), seconds)

    return acquisition.ask_endpoint(resource, send, policy, endpoint, on_retry)


def _ask_patiently(endpoint: Endpoint, resource: str, arguments: argparse.Namespace) -> Token | Failure:
    """Ask, and say on a terminal what is being waited for."""
    with Progress() as progress:

        def say(seconds: float, failure: Failure) -> None:
            who = "the portal" if failure.kind == "portal" else "Cloud Shell"
            progress.show(f"No token from {who} yet; next try in {seconds:.0f} s; Ctrl-C stops.")

        if arguments.wait:
            progress.show("Waiting for the Azure portal in your browser; Ctrl-C stops.")
        budget = arguments.timeout or (acquisition.MAX_TIMEOUT if arguments.wait else DEFAULT_TIMEOUT)
        # A broker has asked often enough itself.
        retries = 0 if is_led_to_a_broker(os.environ) and not arguments.wait else None
        return ask(endpoint, resource, RetryPolicy(budget, retries), say)


def _advice(failure: Failure, environment: Environment, tenant: str | None) -> str:
    """The advice of a failure for somebody at the command line, where another sign-in takes an option."""
    if is_led_to_a_broker(os.environ) and failure.code:
        # A broker's own words say what to do.
        return ""
    if failure.meant:
        return failure.advice
    if failure.kind == "audience":
        return f"{_SIGN_IN} and add --fallback."
    if failure.kind == "tenant":
        return (
            "Either switch the directory in the portal and restart Cloud Shell, or add --fallback and run "
            f"az login --tenant {tenant}"
        )
    if failure.kind in ("entra", "cleared"):
        return failure.advice
    if failure.kind == "not_cloud_shell":
        first = "unset or correct it" if environment.refusal else "run this in Cloud Shell"
        return f"Either {first}, or sign in with 'az login' and add --fallback."
    first = _TRY_AGAIN.get(failure.kind, "try again")
    return f"Either {first}, or {failures.SIGN_IN} and add --fallback."


def _fallback_token(resource: str, failure: Failure, environment: Environment, arguments: argparse.Namespace) -> Token:
    """A token from the credentials that come after Cloud Shell in the default chain.

    :param failure: why Cloud Shell, which is not asked again, has none.
    :raises CommandError: if none of them has one that may be handed out.
    """
    import logging

    from azure.core.exceptions import ClientAuthenticationError

    from .._azure.default_chain import DefaultCloudShellCredential
    from .._azure.identities import known_at
    from ._log import log_to_stderr

    # What azure-identity logs of each of them would otherwise reach stderr.
    logging.getLogger("azure").addHandler(logging.NullHandler())
    log_to_stderr("azure_cloudshell_credential", "WARNING")
    try:
        with DefaultCloudShellCredential(
            exclude_cloud_shell_credential=True, process_timeout=arguments.timeout or DEFAULT_TIMEOUT
        ) as credential:
            token = credential.get_token(f"{resource}/.default", tenant_id=arguments.tenant)
    except (ClientAuthenticationError, ValueError) as error:
        if isinstance(error, ValueError) and "at least one credential" not in str(error):
            # It names the variable or the option that azure-identity cannot read.
            raise CommandError(f"{failure.what} {error}") from error
        is_unknown = "AADSTS500011" in str(error)
        meant = audiences.meant_by(resource, is_registered=False) if is_unknown else failure.meant
        advice = failures.use_scope(meant) if meant else _sign_in(failure, arguments.tenant)
        raise CommandError(
            f"{failure.what} No other credential in the default chain has a token either. {advice} "
            "--debug shows what each of them said."
        ) from error
    answer = Token(token.token, token.expires_on)
    if environment.endpoint is not None:
        request = scopes.TokenRequest((f"{resource}/.default",), {"tenant_id": arguments.tenant})
        refused = known_at(environment.endpoint.port).judge(request, failure, answer, environment.identity)
        if refused is not None:
            raise CommandError(refused.message)
    return answer


def _sign_in(failure: Failure, tenant: str | None) -> str:
    """What to do where no credential has a token: the Azure CLI may not be among those that are tried."""
    if left_out := azure_cli_left_out():
        return f"{left_out}; unset it to use 'az login'."
    if tenant:
        return f"Run 'az login --tenant {tenant}'."
    return "Sign in with 'az login'." if failure.kind == "not_cloud_shell" else f"{_SIGN_IN}."


def azure_cli_left_out() -> str | None:
    """What leaves the Azure CLI out of the default chain, if anything does."""
    chosen = os.environ.get("AZURE_TOKEN_CREDENTIALS", "").strip()
    if chosen.lower() in ("", "dev", "azureclicredential"):
        return None
    return f"AZURE_TOKEN_CREDENTIALS={quoted(chosen, 60)} leaves the Azure CLI out"
