"""``azure-cloudshell token``. Standard library only, unless ``--fallback`` has to ask others."""

from __future__ import annotations

import argparse
import os
import re
import sys
from time import sleep

from .. import _audiences, _environment, _exchange, _protocol
from .._environment import Endpoint
from .._failures import Failure, not_in_cloud_shell
from .._protocol import Ask, NoReply, Patience, Pause, Reply, Token
from .._version import __version__
from . import CommandError

HEADERS = {**_protocol.HEADERS, "User-Agent": f"azure-cloudshell/{__version__}"}
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:/.*)?", re.IGNORECASE)


def run(arguments: argparse.Namespace) -> int:
    """Print a token in the form asked for."""
    environment = _environment.read(os.environ)
    resource = resource_of(arguments, environment.cloud)
    if environment.endpoint is None:
        outcome: Token | Failure = not_in_cloud_shell(environment.refusal)
    else:
        outcome = ask(environment.endpoint, resource, Patience(arguments.timeout))
    if isinstance(outcome, Failure):
        if not arguments.fallback:
            advice = "Sign in with 'az login' and add --fallback." if outcome.kind == "audience" else outcome.advice
            raise CommandError(f"{outcome.what} {advice}")
        value, expires_on = _from_the_rest_of_the_chain(resource, outcome, arguments.timeout)
    else:
        value, expires_on = outcome.value, outcome.expires_on
    sys.stdout.write(_FORMS[arguments.output](value, expires_on) + "\n")
    return 0


def resource_of(arguments: argparse.Namespace, cloud: str | None) -> str:
    """The resource that the arguments name.

    :raises CommandError: if they name none.
    """
    text: str = arguments.scope or arguments.resource_uri or arguments.resource
    named = _audiences.named(text, _audiences.cloud_named(cloud))
    if named is not None:
        return named
    if "://" not in text and not _GUID.fullmatch(text) and not text.startswith("urn:"):
        names = ", ".join(sorted(audience.name for audience in _audiences.KNOWN))
        raise CommandError(
            f"{text!r} is no resource. Give a URI like https://vault.azure.net, an application id, or one of: {names}.",
            2,
        )
    try:
        return _protocol.scope_to_resource((text,)) if arguments.scope or not arguments.resource_uri else text
    except ValueError as error:
        raise CommandError(str(error), 2) from None


def ask(endpoint: Endpoint, resource: str, patience: Patience) -> Token | Failure:
    """Ask the endpoint, over the bare exchange."""

    def perform(step: Ask | Pause) -> Reply | NoReply | None:
        if isinstance(step, Pause):
            sleep(step.seconds)
            return None
        return _exchange.post(endpoint, HEADERS, _protocol.form(step.resource), step.seconds)

    return _protocol.drive(_protocol.acquire(resource, patience), perform)


def _from_the_rest_of_the_chain(resource: str, failure: Failure, seconds: float) -> tuple[str, int]:
    """A token from whoever comes with Cloud Shell in the default chain.

    :param failure: why Cloud Shell, which is not asked again, has none.
    :param seconds: for each of the others at most.
    :raises CommandError: if nobody has one.
    """
    import logging

    from azure.core.exceptions import ClientAuthenticationError

    from .. import DefaultCloudShellCredential

    # What azure-identity logs of each of them would otherwise reach stderr.
    logging.getLogger("azure").addHandler(logging.NullHandler())
    try:
        with DefaultCloudShellCredential(exclude_cloud_shell_credential=True, process_timeout=seconds) as credential:
            token = credential.get_token(f"{resource}/.default")
    except (ClientAuthenticationError, ValueError) as error:
        raise CommandError(
            f"{failure.what} Nobody else in the default chain has a token either: sign in with 'az login'. "
            "(--debug shows what each of them said.)"
        ) from error
    return token.token, token.expires_on


def _as_json(value: str, expires_on: int) -> str:
    import json
    from datetime import datetime

    fields = {
        "accessToken": value,
        # In local time, as az prints it.
        "expiresOn": datetime.fromtimestamp(expires_on).strftime("%Y-%m-%d %H:%M:%S.%f"),
        "expires_on": expires_on,
        "subscription": os.environ.get("AZURE_SUBSCRIPTION_ID"),
        "tenant": _protocol.claims_of(value).get("tid") or os.environ.get("ACC_TID"),
        "tokenType": "Bearer",
    }
    return json.dumps(fields, indent=2)


def _as_variable(value: str, expires_on: int) -> str:
    from shlex import quote

    return f"export AZURE_ACCESS_TOKEN={quote(value)}"


def _as_claims(value: str, expires_on: int) -> str:
    import json

    claims = _protocol.claims_of(value)
    if not claims:
        raise CommandError("The token is opaque: it does not say whom it is for.")
    return json.dumps(claims, indent=2)


_FORMS = {
    "token": lambda value, expires_on: value,
    "json": _as_json,
    "header": lambda value, expires_on: f"Authorization: Bearer {value}",
    "env": _as_variable,
    "claims": _as_claims,
}
