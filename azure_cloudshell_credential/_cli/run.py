"""``azure-cloudshell run``: a command whose managed-identity client asks the broker, which runs beside it."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from typing import Any

from ..broker import CloudShellBroker
from ._apart import module_path, served_apart
from ._become import become
from ._credentials import add_broker_arguments, check_credential, credential_named, tell_of_a_way_past
from ._errors import CommandError
from ._foreground import say
from ._log import log_to_stderr
from ._parser import Parser

EXAMPLES = (
    "azure-cloudshell run node app.js",
    "azure-cloudshell run --allow vault,storage -- python app.py",
    "azure-cloudshell run    # a shell in which every program asks the broker",
)


def add_arguments(parser: Parser) -> None:
    """What the command takes."""
    add_broker_arguments(parser)
    parser.add_argument("--verbose", "-v", action="store_true", help="show a line for each token request, on stderr")
    parser.add_command("the program and its arguments; default: your shell")


def run(arguments: argparse.Namespace) -> int:
    """Start the broker beside this process, and become the command."""
    if not _has_azure_identity():
        # Said now, not to the program when it asks: this is the one file of the release.
        raise CommandError("This needs azure-identity, which is not installed: pip install azure-identity")
    check_credential(arguments.credential)
    try:
        broker = CloudShellBroker(allow=arguments.allow)
    except ValueError as error:
        raise CommandError(f"--allow: {error}", 2) from None
    try:
        listeners, secrets = broker._hand_over()
    except OSError as error:
        raise CommandError(f"Cannot listen on this machine: {error.strerror or error}.") from None
    settings = {**vars(arguments), "secrets": secrets}
    command = arguments.words or [os.environ.get("SHELL") or os.environ.get("COMSPEC") or "/bin/sh"]
    # The code of the user's own credential is run there, and its errors are told before the command starts.
    waits = ":" in (arguments.credential or "")
    with served_apart("run", settings, listeners, waits=waits):
        tell_of_a_way_past(arguments.allow, os.environ)
        if not arguments.words:
            say(f"azure-cloudshell: starting {command[0]}, in which every program asks the broker until you exit")
        if arguments.verbose:
            say(f"azure-cloudshell: serving tokens on port {broker.port}")
        return become(command, broker.child_environment(os.environ))


@contextmanager
def serve(settings: Mapping[str, Any], listeners: Sequence[socket.socket]) -> Iterator[dict[str, str]]:
    """Serve, in the process beside the command."""
    log_to_stderr("azure_cloudshell_credential.broker", "INFO" if settings["verbose"] else "WARNING")
    broker = CloudShellBroker(credential_named(settings["credential"]), allow=settings["allow"])
    broker._take_over(listeners, settings["secrets"])
    try:
        yield {}
    finally:
        broker.stop()


def _has_azure_identity() -> bool:
    # Without importing anything, as importlib.util.find_spec would: ./azure.py is not to be run.
    azure = PathFinder.find_spec("azure", module_path())
    places = azure.submodule_search_locations if azure is not None else None
    return places is not None and PathFinder.find_spec("azure.identity", list(places)) is not None
