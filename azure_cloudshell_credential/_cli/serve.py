"""``azure-cloudshell serve``: the broker for containers and for tools with a hard-coded address."""

from __future__ import annotations

import argparse
import os
import re
import sys
from contextlib import redirect_stdout
from ipaddress import ip_address
from pathlib import Path

from .._endpoint import audiences
from .._endpoint.identity import identity_in
from .._endpoint.token import claims_of
from ..broker import CloudShellBroker
from . import _private_files
from ._credentials import add_broker_arguments, credential_named, tell_of_a_way_past
from ._errors import CommandError
from ._foreground import cannot_listen, say, stop_signal
from ._log import log_to_stderr
from ._parser import Parser, port
from ._shells import SHELLS, detect, set_variable, unset_variable

EXAMPLES = (
    "azure-cloudshell serve",
    "azure-cloudshell serve --port 0 --path-secret",
    "azure-cloudshell serve --listen 172.17.0.1 --host-name host.docker.internal -o env-file --to broker.env",
)

_SECRET = re.compile(r"[0-9a-f]{64}")


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
    parser.add_argument(
        "--to", metavar="FILE", help="write the lines to FILE, which only you may read, and not to stdout"
    )
    parser.add_argument(
        "--secrets",
        metavar="FILE",
        help="keep the secrets in FILE, which is made if missing; the lines are then good after a restart",
    )
    parser.add_argument("--shell", choices=SHELLS, help="syntax of the lines it prints; default: the calling shell's")


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    # A credential may ask its user to sign in, and stdout is for eval.
    with redirect_stdout(sys.stderr):
        return _listen(arguments)


def _listen(arguments: argparse.Namespace) -> int:
    environ = dict(os.environ)
    credential = credential_named(arguments.credential)
    address = arguments.listen or "127.0.0.1"
    has_secret = arguments.path_secret or any((arguments.listen, arguments.host_name, arguments.secrets))
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
    if arguments.secrets is not None:
        _keep_secrets(broker, Path(arguments.secrets))
    try:
        broker.start()
    except OSError as error:
        raise cannot_listen(arguments.port, error, address) from None
    try:
        variables = broker.variables_for(environ)
        broken = [name for name, value in variables.items() if len(value.splitlines()) > 1]
        if arguments.output == "env-file" and broken:
            raise CommandError(f"{broken[0]} has a line break, which an env file cannot hold: set it on one line.", 2)
        tell_of_a_way_past(arguments.allow, environ)
        return _serve(broker, variables, arguments, has_secret=has_secret)
    finally:
        broker.stop()


def _keep_secrets(broker: CloudShellBroker, path: Path) -> None:
    """Take the secrets that are in a file, or leave ours there."""
    kept = _private_files.read(path, lambda: "".join(f"{secret}\n" for secret in broker._secrets)).split()
    if len(kept) != len(broker._secrets) or not all(map(_SECRET.fullmatch, kept)):
        raise CommandError(f"{path} does not hold the secrets of a broker: name another file, or delete it.")
    broker._take(kept)


def _serve(
    broker: CloudShellBroker, variables: dict[str, str], arguments: argparse.Namespace, *, has_secret: bool
) -> int:
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
    if arguments.output == "env-file":
        lines = [f"{name}={value}" for name, value in variables.items()]
    else:
        shell = arguments.shell or detect()
        lines = [unset_variable(shell, name) for name in broker.removed]
        lines += [set_variable(shell, name, value) for name, value in variables.items()]
    text = "".join(f"{line}\n" for line in lines)
    if arguments.to is not None:
        _private_files.write(Path(arguments.to), text)
        say(f"The lines are in {arguments.to}.")
    else:
        if arguments.output == "shell":
            say("In another shell:")
        assert sys.__stdout__ is not None
        sys.__stdout__.write(text)
        sys.__stdout__.flush()
    log_to_stderr("azure_cloudshell_credential.broker")
    wait()
    say("Stopped.")
    return 0
