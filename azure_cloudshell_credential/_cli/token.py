"""``azure-cloudshell token``. Standard library only, unless ``--fallback`` has to ask others."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from .._endpoint import acquisition, audiences, exchange, failures, protocol
from .._endpoint.acquisition import RetryPolicy
from .._endpoint.environment import Endpoint, read_environment
from .._endpoint.failures import Failure
from .._endpoint.protocol import NoReply, Reply, Token
from .._version import __version__
from . import CommandError
from ._parser import Parser, timeout
from ._shells import SHELLS

HEADERS = {**protocol.HEADERS, "User-Agent": f"azure-cloudshell/{__version__}"}
OUTPUTS = ("token", "json", "header", "env", "claims", "exec-credential")
DEFAULT_TIMEOUT = 30.0
EXAMPLES = (
    "azure-cloudshell token",
    "azure-cloudshell token vault --output json",
    "azure-cloudshell token -o header | curl -H @- 'https://management.azure.com/subscriptions?api-version=2022-12-01'",
    'eval "$(azure-cloudshell token graph --output env)"',
    "azure-cloudshell token aks --output exec-credential    # in a kubeconfig",
)


def add_arguments(parser: Parser) -> None:
    """What the command takes."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "resource",
        nargs="?",
        metavar="RESOURCE",
        help="a URI, an application id, or a short name (arm, graph, vault, storage, sql, ...); default: arm",
    )
    which.add_argument("--resource", dest="resource_uri", metavar="URI", help="the resource, sent unchanged")
    which.add_argument("--scope", help="a scope, such as https://vault.azure.net/.default")
    parser.add_argument(
        "--output",
        "-o",
        choices=OUTPUTS,
        default="token",
        metavar="FORM",
        help=f"{', '.join(OUTPUTS)}; default: token, and nothing else",
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


def run(arguments: Any) -> int:
    """Print a token in the form requested."""
    environment = read_environment(os.environ)
    resource = resource_of(arguments, environment.cloud)
    if environment.endpoint is None:
        outcome: Token | Failure = failures.not_in_cloud_shell(environment.refusal)
    else:
        budget = acquisition.MAX_TIMEOUT if arguments.wait else arguments.timeout or DEFAULT_TIMEOUT
        policy = RetryPolicy(budget)
        pause = _pause if (arguments.wait or arguments.timeout) and _is_terminal(sys.stderr) else None
        outcome = ask(environment.endpoint, resource, policy, pause)
    if isinstance(outcome, Token):
        outcome = protocol.wrong_tenant(resource, outcome, arguments.tenant, environment.tenant_id) or outcome
    if isinstance(outcome, Failure):
        if not arguments.fallback:
            raise CommandError(f"{outcome.what} {_advice(outcome)}")
        value, expires_on = _fallback_token(resource, outcome, arguments)
    else:
        value, expires_on = outcome.value, outcome.expires_on
    sys.stdout.write(_FORMATTERS[arguments.output](value, expires_on, arguments) + "\n")
    return 0


def resource_of(arguments: argparse.Namespace, cloud: str | None) -> str:
    """The resource that the arguments name.

    :raises CommandError: if they name none.
    """
    text: str = arguments.scope or arguments.resource_uri or arguments.resource or "arm"
    if protocol.is_bare_permission(text):
        raise CommandError(failures.permission_without_resource(text).message, 2)
    try:
        resource = audiences.resource_named(text, audiences.cloud_named(cloud))
        return resource if arguments.resource_uri else protocol.scope_to_resource((resource,))
    except ValueError as error:
        raise CommandError(str(error), 2) from None


def ask(
    endpoint: Endpoint,
    resource: str,
    policy: RetryPolicy,
    pause: Callable[[float, Failure], float] | None = None,
) -> Token | Failure:
    """Ask the endpoint, over the bare exchange."""

    def send(resource: str, seconds: float) -> Reply | NoReply:
        return exchange.post(endpoint, HEADERS, protocol.form(resource), seconds)

    return acquisition.acquire(resource, send, policy, pause)


def _is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()


def _pause(seconds: float, failure: Failure) -> float:
    reason = "the portal in the browser did not answer" if failure.kind == "portal" else "not yet"
    print(f"azure-cloudshell: {reason}; asking again in {seconds:.0f} s (Ctrl-C stops)", file=sys.stderr)
    return acquisition.sleeping(seconds, failure)


def _advice(failure: Failure) -> str:
    """The advice of a failure for somebody at the command line, where another sign-in takes an option."""
    if failure.kind == "audience":
        return "Sign in with 'az login' and add --fallback."
    for sign_in in ("sign in with 'az login'", "Sign in with 'az login'"):
        if sign_in in failure.advice:
            return failure.advice.replace(sign_in, f"{sign_in} and add --fallback")
    if failure.kind == "entra":
        # What is wrong is the account, the resource or the session: another sign-in does not help.
        return failure.advice
    return f"Add --fallback, which tries the other ways to sign in. {failure.advice}"


def _fallback_token(resource: str, failure: Failure, arguments: Any) -> tuple[str, int]:
    """A token from the credentials that come after Cloud Shell in the default chain.

    :param failure: why Cloud Shell, which is not asked again, has none.
    :raises CommandError: if none of them has one.
    """
    import logging

    from azure.core.exceptions import ClientAuthenticationError

    from .._azure.default_chain import DefaultCloudShellCredential

    # What azure-identity logs of each of them would otherwise reach stderr.
    logging.getLogger("azure").addHandler(logging.NullHandler())
    try:
        with DefaultCloudShellCredential(
            exclude_cloud_shell_credential=True, process_timeout=arguments.timeout or DEFAULT_TIMEOUT
        ) as credential:
            token = credential.get_token(f"{resource}/.default", tenant_id=arguments.tenant)
    except (ClientAuthenticationError, ValueError) as error:
        if isinstance(error, ValueError) and "at least one credential" not in str(error):
            # It names the variable or the option that azure-identity cannot read.
            raise CommandError(f"{failure.what} {error}") from error
        raise CommandError(
            f"{failure.what} No other credential in the default chain has a token either: {_sign_in()} "
            "(--debug shows what each of them said.)"
        ) from error
    return token.token, token.expires_on


def _sign_in() -> str:
    """What to do where no credential has a token: the Azure CLI may not be among those that are tried."""
    left_out = azure_cli_left_out()
    return f"{left_out}; unset it to use 'az login'." if left_out else "sign in with 'az login'."


def azure_cli_left_out() -> str | None:
    """What leaves the Azure CLI out of the default chain, if anything does."""
    chosen = os.environ.get("AZURE_TOKEN_CREDENTIALS", "").strip()
    if chosen.lower() in ("", "dev", "azureclicredential"):
        return None
    return f"AZURE_TOKEN_CREDENTIALS={failures.quoted(chosen, 60)} leaves the Azure CLI out"


def _as_json(value: str, expires_on: int, arguments: Any) -> str:
    import json
    from datetime import datetime

    from .._azure.subscription import known_subscription_id

    fields = {
        "accessToken": value,
        # In local time, as az prints it.
        "expiresOn": datetime.fromtimestamp(expires_on).strftime("%Y-%m-%d %H:%M:%S.%f"),
        "expires_on": expires_on,
        "subscription": known_subscription_id(os.environ),
        "tenant": protocol.claims_of(value).get("tid") or os.environ.get("ACC_TID"),
        "tokenType": "Bearer",
    }
    return json.dumps(fields, indent=2)


def _as_variable(value: str, expires_on: int, arguments: Any) -> str:
    from ._shells import detect, set_variable

    return set_variable(arguments.shell or detect(), "AZURE_ACCESS_TOKEN", value)


def _as_claims(value: str, expires_on: int, arguments: Any) -> str:
    import json

    claims = protocol.claims_of(value)
    if not claims:
        raise CommandError("The token is not a JWT; it has no readable claims.")
    return json.dumps(claims, indent=2)


def _as_exec_credential(value: str, expires_on: int, arguments: Any) -> str:
    """What kubectl takes from a credential plugin: Kubernetes' client.authentication.k8s.io."""
    import json
    from contextlib import suppress
    from datetime import datetime, timezone

    version = "client.authentication.k8s.io/v1"
    with suppress(ValueError, AttributeError):
        # kubectl says which version it speaks.
        version = json.loads(os.environ.get("KUBERNETES_EXEC_INFO", "")).get("apiVersion") or version
    expiry = datetime.fromtimestamp(expires_on, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps(
        {"apiVersion": version, "kind": "ExecCredential", "status": {"token": value, "expirationTimestamp": expiry}}
    )


_FORMATTERS: dict[str, Callable[[str, int, Any], str]] = {
    "token": lambda value, expires_on, arguments: value,
    "json": _as_json,
    "header": lambda value, expires_on, arguments: f"Authorization: Bearer {value}",
    "env": _as_variable,
    "claims": _as_claims,
    "exec-credential": _as_exec_credential,
}
