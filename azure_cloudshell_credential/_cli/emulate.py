"""``azure-cloudshell emulate``."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from typing import Any

from .._endpoint.environment import without_proxy_for_loopback
from ..emulator import DEFAULT_AUDIENCES, DEFAULT_LIFETIME, CloudShellEmulator, Identity
from ..emulator.anywhere import NO_RESOURCE_MANAGER, RESOURCE_MANAGER_VARIABLE
from ._child import command_of, run_command
from ._log import log_to_stderr
from ._parser import Parser, latency, port, positive
from ._serving import cannot_listen, say, stop_signal
from ._shells import SHELLS, detect, set_variable

EXAMPLES = (
    "azure-cloudshell emulate",
    "azure-cloudshell emulate --port 0 --lifetime 120 --audience https://vault.azure.net",
    "azure-cloudshell emulate --port 0 -- python my_script.py",
    "azure-cloudshell emulate --with-azure -- az vm list",
)


def add_arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.add_argument(
        "--port",
        type=port,
        default=50342,
        help="port to listen on; 0 picks a free one. Tools with a hard-coded address need the default, %(default)s",
    )
    parser.add_argument("--tenant", metavar="ID", help="tenant to emulate")
    parser.add_argument("--user", metavar="NAME", help="user to emulate")
    parser.add_argument("--lifetime", type=positive, metavar="SECONDS", help="token lifetime (3900)")
    parser.add_argument("--audience", action="append", metavar="URI", help="support this audience too; may be repeated")
    parser.add_argument(
        "--only-audience", action="append", metavar="URI", help="support this audience and no other; may be repeated"
    )
    parser.add_argument("--all-audiences", action="store_true", help="support every audience")
    parser.add_argument("--latency", type=latency, default=0.0, metavar="SECONDS", help="wait before each reply")
    parser.add_argument(
        "--with-azure",
        action="store_true",
        help="also emulate enough of Azure Resource Manager to list machines, with the Azure CLI logged in",
    )
    parser.add_argument("--shell", choices=SHELLS, help="syntax of the lines it prints; default: the calling shell's")
    parser.add_argument("--exec", action="store_true", help="may stand before COMMAND, for clarity")
    parser.add_command("run a command in the emulated environment, and exit with its status")


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted, or until the command has ended."""
    command = command_of(arguments.words) if arguments.words or arguments.exec else None
    shell = CloudShellEmulator(
        port=arguments.port,
        identity=_identity(arguments),
        lifetime=arguments.lifetime or DEFAULT_LIFETIME,
        audiences=_audiences(arguments),
        latency=arguments.latency,
    )
    try:
        shell.start()
    except OSError as error:
        raise cannot_listen(arguments.port, error) from None
    with ExitStack() as stack:
        stack.callback(shell.stop)
        variables = dict(shell.environment)
        variables.update(without_proxy_for_loopback(os.environ))
        variables[RESOURCE_MANAGER_VARIABLE] = NO_RESOURCE_MANAGER
        if arguments.with_azure:
            variables.update(_azure(stack, shell))
        if command is not None:
            with shell.as_environment():
                return run_command(command, {**os.environ, **variables})
        return _serve(shell, variables, arguments.shell or detect())


def _azure(stack: ExitStack, shell: CloudShellEmulator) -> dict[str, str]:
    """Start the Resource Manager stand-in, and lead clients to it."""
    from ..emulator.resource_manager import ResourceManagerStandIn

    manager = stack.enter_context(ResourceManagerStandIn(shell))
    return manager.environment


def _serve(shell: CloudShellEmulator, variables: dict[str, str], name_of_shell: str) -> int:
    stop = stop_signal()
    say(f"Emulating Cloud Shell's token endpoint at {shell.endpoint}.")
    say("Its tokens are made up: no Azure service accepts them. Ctrl-C stops it.")
    say("In another shell:")
    for name, value in variables.items():
        print(set_variable(name_of_shell, name, value), flush=True)
    log_to_stderr("azure_cloudshell_credential.emulator")
    stop.wait()
    say("Stopped.")
    return 0


def _audiences(arguments: argparse.Namespace) -> list[str] | None:
    if arguments.all_audiences:
        return None
    listed = [] if arguments.only_audience else list(DEFAULT_AUDIENCES)
    return [*listed, *(arguments.only_audience or ()), *(arguments.audience or ())]


def _identity(arguments: argparse.Namespace) -> Identity:
    changes: dict[str, Any] = {"tenant_id": arguments.tenant, "user": arguments.user}
    return Identity().changed(**{name: value for name, value in changes.items() if value})
