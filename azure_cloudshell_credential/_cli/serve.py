"""``azure-cloudshell serve``: the broker for containers and for tools with a hard-coded address."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import redirect_stdout
from ipaddress import ip_address

from .._endpoint import audiences
from .._endpoint.identity import identity_in
from .._endpoint.token import claims_of
from ..broker import CloudShellBroker
from ._credentials import add_broker_arguments, credential_named
from ._errors import CommandError
from ._foreground import cannot_listen, say, stop_signal
from ._log import log_to_stderr
from ._parser import Parser, port
from ._shells import SHELLS, detect, set_variable, unset_variable

EXAMPLES = (
    "azure-cloudshell serve",
    "azure-cloudshell serve --port 0 --path-secret",
    "azure-cloudshell serve --listen 172.17.0.1 --host-name host.docker.internal --output env-file > broker.env",
)


def add_arguments(parser: Parser) -> None:
    """What the command takes."""
    add_broker_arguments(parser)
    parser.add_argument("--port", type=port, default=50342, help="port to listen on; 0 picks a free one (%(default)s)")
    parser.add_argument(
        "--path-secret",
        action="store_true",
        help="put a secret into the URL, so that only programs that know it get tokens",
    )
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        help="an IP address of this machine that containers reach; always with a secret in the URL",
    )
    parser.add_argument(
        "--host-name",
        action="append",
        metavar="NAME",
        help="a name by which containers reach that address; may be repeated, the first one is in the URL",
    )
    parser.add_argument(
        "--output",
        "-o",
        choices=("shell", "env-file"),
        default="shell",
        help="lines for a shell, or for 'docker run --env-file'; default: %(default)s",
    )
    parser.add_argument("--shell", choices=SHELLS, help="syntax of the lines it prints; default: the calling shell's")


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    # A credential may ask its user to sign in, and stdout is for eval.
    with redirect_stdout(sys.stderr):
        return _listen(arguments)


def _listen(arguments: argparse.Namespace) -> int:
    credential = credential_named(arguments.credential)
    address = arguments.listen or "127.0.0.1"
    has_secret = arguments.path_secret or arguments.listen is not None or arguments.host_name is not None
    try:
        broker = CloudShellBroker(
            credential,
            port=arguments.port,
            path_secret=has_secret,
            allow=arguments.allow,
            listen=address,
            host_names=arguments.host_name or (),
        )
    except ValueError as error:
        raise CommandError(str(error), 2) from None
    exempt = broker.without_proxy(os.environ)
    if arguments.output == "env-file" and any(len(value.splitlines()) > 1 for value in exempt.values()):
        raise CommandError("NO_PROXY has a line break, which an env file cannot hold: set it on one line.", 2)
    try:
        broker.start()
    except OSError as error:
        raise cannot_listen(arguments.port, error, address) from None
    try:
        return _serve(broker, exempt, arguments, has_secret=has_secret)
    finally:
        broker.stop()


def _serve(broker: CloudShellBroker, exempt: dict[str, str], arguments: argparse.Namespace, *, has_secret: bool) -> int:
    from azure.core.exceptions import ClientAuthenticationError

    manager = audiences.cloud_named(os.environ.get("ACC_CLOUD")).resource_manager
    try:
        token, _ = broker.get_token(f"{manager}/.default")
    except ClientAuthenticationError as error:
        raise CommandError(f"Not signed in. {error.message}") from error
    wait = stop_signal()
    user = identity_in(claims_of(token))
    say(f"Serving tokens of {user.who} on port {broker.port}.")
    if has_secret:
        say("They are REAL: anyone who knows the lines below can act as this user. Ctrl-C stops it.")
    else:
        say("They are REAL, and every program on this machine can get one and act as this user. Ctrl-C stops it.")
    if arguments.listen is not None and not ip_address(arguments.listen).is_loopback:
        say(f"They cross the network of {arguments.listen} without encryption.")
    variables = {**broker.environment, **exempt}
    if arguments.output == "env-file":
        lines = [f"{name}={value}" for name, value in variables.items()]
    else:
        say("In another shell:")
        shell = arguments.shell or detect()
        lines = [unset_variable(shell, name) for name in broker.removed]
        lines += [set_variable(shell, name, value) for name, value in variables.items()]
    print(*lines, sep="\n", file=sys.__stdout__, flush=True)
    log_to_stderr("azure_cloudshell_credential.broker")
    wait()
    say("Stopped.")
    return 0
