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
EXAMPLES = (
    "azure-cloudshell token",
    "azure-cloudshell token vault --output json",
    "azure-cloudshell token -o header | curl -H @- 'https://management.azure.com/subscriptions?api-version=2022-12-01'",
    'eval "$(azure-cloudshell token graph --output env)"',
    "azure-cloudshell token aks --output exec-credential --fallback    # in a kubeconfig",
    "git config --global credential.https://dev.azure.com.helper"
    " '!azure-cloudshell token devops -o git-credential --fallback'",
)


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
        from .._endpoint import advice

        if is_led_to_a_broker(os.environ) and environment.endpoint is not None:
            # Nobody is asked after a broker.
            raise CommandError(advice.message(advice.as_the_broker_says(outcome), advice.LED))
        if not arguments.fallback:
            if arguments.wait:
                outcome.details["has_waited"] = "yes"
            raise CommandError(advice.message(outcome, advice.TOKEN))
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


def _fallback_token(resource: str, failure: Failure, environment: Environment, arguments: argparse.Namespace) -> Token:
    """A token from the credentials that come after Cloud Shell in the default chain.

    :param failure: why Cloud Shell, which is not asked again, has none.
    :raises CommandError: if none of them has one that may be handed out.
    """
    import logging

    from .._azure import explanation
    from .._azure.default_chain import DefaultCloudShellCredential
    from .._azure.identities import known_at
    from .._endpoint import advice
    from ._log import log_to_stderr

    # What azure-identity logs of each of them would otherwise reach stderr.
    logging.getLogger("azure").addHandler(logging.NullHandler())
    log_to_stderr("azure_cloudshell_credential", "WARNING")
    request = scopes.TokenRequest((f"{resource}/.default",), {"tenant_id": arguments.tenant})
    try:
        with DefaultCloudShellCredential(
            exclude_cloud_shell_credential=True, process_timeout=arguments.timeout or DEFAULT_TIMEOUT
        ) as credential:
            outcome = credential._outcome(request)
    except ValueError as error:
        if "at least one credential" not in str(error):
            # It names the variable or the option that azure-identity cannot read.
            raise CommandError(f"{failure.what} {error}") from error
        outcome = failure
    if isinstance(outcome, Failure):
        explained = explanation.nobody_has_a_token(request, failure, outcome.reasons)
        raise CommandError(advice.message(explained, advice.FALLBACK))
    if environment.endpoint is not None:
        identities = known_at(environment.endpoint.port)
        refused = identities.judge(request, failure, outcome.token, environment.identity)
        if refused is not None:
            raise CommandError(advice.message(refused, advice.FALLBACK))
    return outcome.token
