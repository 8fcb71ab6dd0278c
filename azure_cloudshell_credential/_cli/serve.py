"""``azure-cloudshell serve``: the broker for tools with a hard-coded address, until it is stopped."""

from __future__ import annotations

import argparse
import sys

from azure.core.exceptions import ClientAuthenticationError

from .._endpoint import protocol
from ..broker import CloudShellBroker
from . import CommandError
from ._credentials import add_broker_arguments, credential_named
from ._log import log_to_stderr
from ._parser import Parser, port
from ._serving import cannot_listen, say, stop_signal
from ._shells import SHELLS, detect, set_variable, unset_variable

EXAMPLES = (
    "azure-cloudshell serve",
    "azure-cloudshell serve --port 0 --path-secret",
)

_RESOURCE_MANAGER = "https://management.azure.com/.default"


def add_arguments(parser: Parser) -> None:
    """What the command takes."""
    add_broker_arguments(parser)
    parser.add_argument("--port", type=port, default=50342, help="port to listen on; 0 picks a free one (%(default)s)")
    parser.add_argument(
        "--path-secret",
        action="store_true",
        help="put a secret into the URL, so that only programs that know it get tokens",
    )
    parser.add_argument("--shell", choices=SHELLS, help="syntax of the lines it prints; default: the calling shell's")


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    broker = CloudShellBroker(
        credential_named(arguments.credential),
        protocol=arguments.protocol,
        port=arguments.port,
        path_secret=arguments.path_secret,
    )
    try:
        broker.start()
    except OSError as error:
        raise cannot_listen(arguments.port, error) from None
    try:
        return _serve(broker, arguments)
    finally:
        broker.stop()


def _serve(broker: CloudShellBroker, arguments: argparse.Namespace) -> int:
    try:
        token, _ = broker.get_token(_RESOURCE_MANAGER)
    except ClientAuthenticationError as error:
        raise CommandError(f"There is no sign-in to serve. {error.message}") from error
    stop = stop_signal()
    claims = protocol.claims_of(token)
    who = protocol.user_in(claims) or protocol.shown_claim(claims, "appid", "oid") or "an unnamed user"
    say(f"Serving tokens of {who} in tenant {protocol.shown_claim(claims, 'tid') or 'unknown'} on port {broker.port}.")
    if arguments.path_secret:
        say("They are REAL: anyone who knows the URL below can act as this user. Ctrl-C stops it.")
    else:
        say("They are REAL, and every program on this machine can get one and act as this user. Ctrl-C stops it.")
    say("In another shell:")
    shell = arguments.shell or detect()
    for name in broker.removed:
        print(unset_variable(shell, name))
    for name, value in broker.environment.items():
        print(set_variable(shell, name, value))
    sys.stdout.flush()
    log_to_stderr("azure_cloudshell_credential.broker")
    stop.wait()
    say("Stopped.")
    return 0
