"""``azure-cloudshell token``. Standard library only, unless ``--fallback`` has to ask others.

It takes no longer than the documented recipe with curl, so that it reads plain arguments without argparse, whose import
would cost it a fifth of that time: ``plain_arguments``. Anything else (an error, ``--help``, an
abbreviation) is argparse's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .._endpoint import acquisition, audiences, exchange, failures, protocol
from .._endpoint.acquisition import RetryPolicy
from .._endpoint.environment import Endpoint, read_environment
from .._endpoint.failures import Failure
from .._endpoint.protocol import NoReply, Reply, Token
from .._version import __version__
from . import CommandError

# typing's own, and argparse's, would cost the command their import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

HEADERS = {**protocol.HEADERS, "User-Agent": f"azure-cloudshell/{__version__}"}
OUTPUTS = ("token", "json", "header", "env", "claims", "exec-credential")
DEFAULT_TIMEOUT = 30.0
_GUID = r"(?i:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:/.*)?)"
_OPTIONS_WITH_A_VALUE = {
    "-o": "output",
    "--output": "output",
    "--resource": "resource_uri",
    "--scope": "scope",
    "--tenant": "tenant",
}


class Arguments:
    """The arguments of the command, with their defaults."""

    def __init__(self) -> None:
        self.command = "token"
        self.debug = False
        self.resource: str | None = None
        self.resource_uri: str | None = None
        self.scope: str | None = None
        self.tenant: str | None = None
        self.output = "token"
        self.shell: str | None = None
        self.timeout: float | None = None
        self.wait = False
        self.fallback = False


def plain_arguments(argv: Sequence[str]) -> Arguments | None:
    """The arguments, if they are plain ones of this command: each known, spelled out, given once and with a value."""
    if not argv or argv[0] != "token":
        return None
    arguments = Arguments()
    words = iter(argv[1:])
    given = set()
    for word in words:
        if word == "--fallback":
            name, value = "fallback", "yes"
        elif word in _OPTIONS_WITH_A_VALUE:
            name, value = _OPTIONS_WITH_A_VALUE[word], next(words, "")
        else:
            name, value = "resource", word
        if not value or value.startswith("-") or name in given:
            return None
        given.add(name)
        setattr(arguments, name, True if name == "fallback" else value)
    if len(given & {"resource", "resource_uri", "scope"}) > 1 or arguments.output not in OUTPUTS:
        return None
    return arguments


def run(arguments: Any) -> int:
    """Print a token in the form requested."""
    environment = read_environment(os.environ)
    resource = resource_of(arguments, environment.cloud)
    if environment.endpoint is None:
        outcome: Token | Failure = failures.not_in_cloud_shell(environment.refusal, environment.other_host)
    else:
        timeout = arguments.timeout or DEFAULT_TIMEOUT
        policy = RetryPolicy(acquisition.MAX_TIMEOUT if arguments.wait else timeout)
        on_retry = _say_retry if (arguments.wait or arguments.timeout) and _is_terminal(sys.stderr) else None
        outcome = ask(environment.endpoint, resource, policy, on_retry)
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


def resource_of(arguments: Any, cloud: str | None) -> str:
    """The resource that the arguments name.

    :raises CommandError: if they name none.
    """
    for given, option in ((arguments.scope, "--scope"), (arguments.resource_uri, "--resource")):
        if given is not None and not given.strip():
            raise CommandError(f"{option} is empty: is the variable it comes from set?", 2)
    if arguments.resource is not None and not arguments.resource.strip():
        raise CommandError("RESOURCE is empty: is the variable it comes from set?", 2)
    text: str = arguments.scope or arguments.resource_uri or arguments.resource or "arm"
    named = audiences.resource_for(text, audiences.cloud_named(cloud))
    if named is not None:
        return named
    if protocol.is_bare_permission(text):
        raise CommandError(failures.permission_without_resource(text).message, 2)
    if "://" not in text and not text.startswith("urn:") and not _is_guid(text):
        names = ", ".join(sorted(audience.name for audience in audiences.KNOWN))
        raise CommandError(
            f"{text!r} is not a known resource. Give a URI like https://vault.azure.net, an application id, or one of: "
            f"{names}.",
            2,
        )
    try:
        return protocol.scope_to_resource((text,)) if arguments.scope or not arguments.resource_uri else text
    except ValueError as error:
        raise CommandError(str(error), 2) from None


def _is_guid(text: str) -> bool:
    import re

    return re.fullmatch(_GUID, text) is not None


def ask(
    endpoint: Endpoint,
    resource: str,
    policy: RetryPolicy,
    on_retry: Callable[[float, Failure], None] | None = None,
) -> Token | Failure:
    """Ask the endpoint, over the bare exchange."""

    def send(resource: str, seconds: float) -> Reply | NoReply:
        return exchange.post(endpoint, HEADERS, protocol.form(resource), seconds)

    return acquisition.acquire(resource, send, policy, endpoint.port, on_retry)


def _is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()


def _say_retry(seconds: float, failure: Failure) -> None:
    reason = "the portal in the browser did not answer" if failure.kind == "portal" else "not yet"
    print(f"azure-cloudshell: {reason}; asking again in {seconds:.0f} s (Ctrl-C stops)", file=sys.stderr)


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
