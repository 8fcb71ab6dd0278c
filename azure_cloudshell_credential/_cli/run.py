"""``azure-cloudshell run``: a command whose managed-identity client asks the broker."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec

from ..broker import CloudShellBroker
from . import CommandError
from ._child import command_of, run_command
from ._credentials import add_broker_arguments, credential_named
from ._log import log_to_stderr
from ._parser import Parser

EXAMPLES = (
    "azure-cloudshell run -- terraform apply",
    "azure-cloudshell run -- node app.js",
    "azure-cloudshell run --protocol app-service -- python app.py",
)


def add_arguments(parser: Parser) -> None:
    """What the command takes."""
    add_broker_arguments(parser)
    parser.add_argument("--verbose", "-v", action="store_true", help="show a line for each token request, on stderr")
    parser.add_command("the program and its arguments")


def run(arguments: argparse.Namespace) -> int:
    """Run the command to its end, and exit with its status."""
    if find_spec("azure") is None or find_spec("azure.identity") is None:
        # Said now, not to the program when it asks: this is the one file of the release.
        raise CommandError("run needs azure-identity: pip install azure-cloudshell-credential")
    command = command_of(arguments.words)
    credential = credential_named(arguments.credential)
    broker = CloudShellBroker(credential, protocol=arguments.protocol)
    try:
        broker.bind()
    except OSError as error:
        raise CommandError(f"Cannot listen on this machine: {error.strerror or error}.") from None
    try:
        if arguments.verbose:
            log_to_stderr("azure_cloudshell_credential.broker")
            print(f"azure-cloudshell: serving tokens on port {broker.port} ({arguments.protocol})", file=sys.stderr)
        # Served once the command has been started: a process with threads is not to be forked.
        return run_command(command, broker.child_environment(os.environ), broker.serve)
    finally:
        broker.stop()
