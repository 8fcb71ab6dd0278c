"""``azure-cloudshell emulate``."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from typing import Any

from .._endpoint.environment import without_proxy_for_loopback
from .. import emulator
from ..emulator import faults
from . import CommandError
from ._child import command_of, run_command
from ._log import log_to_stderr
from ._parser import Parser, latency, port, positive
from ._serving import cannot_listen, say, stop_signal
from ._shells import SHELLS, detect, set_variable

_HARD_CODED_PORT = 50342

EXAMPLES = (
    "azure-cloudshell emulate",
    "azure-cloudshell emulate --port 0 --lifetime 120 --only-audience vault",
    "azure-cloudshell emulate --with-azure -- python my_script.py",
    "azure-cloudshell emulate --with-azure -- az vm list",
    "azure-cloudshell emulate --fault portal-timeout:2 -- azure-cloudshell token --wait",
)


def add_arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.add_argument(
        "--port",
        type=port,
        default=_HARD_CODED_PORT,
        help="port to listen on; 0 picks a free one. Tools with a hard-coded address need the default, %(default)s",
    )
    parser.add_argument("--tenant", metavar="ID", help="tenant to emulate")
    parser.add_argument("--user", metavar="NAME", help="user to emulate")
    parser.add_argument("--lifetime", type=positive, metavar="SECONDS", help="token lifetime (3900)")
    parser.add_argument(
        "--audience", action="append", metavar="NAME", help="support this audience too, such as vault; may be repeated"
    )
    parser.add_argument(
        "--only-audience", action="append", metavar="NAME", help="support this audience and no other; may be repeated"
    )
    parser.add_argument("--deny", action="append", metavar="NAME", help="do not support this audience; may be repeated")
    parser.add_argument("--all-audiences", action="store_true", help="support every audience")
    parser.add_argument("--latency", type=latency, default=0.0, metavar="SECONDS", help="wait before each reply")
    parser.add_argument(
        "--with-azure",
        action="store_true",
        help="also emulate Azure Resource Manager, for unmodified programs, and refuse them every other host",
    )
    parser.add_argument(
        "--fault",
        action="append",
        metavar="NAME[:COUNT]",
        help=f"fail like this, always or COUNT times; may be repeated. NAME: {', '.join(faults.NAMED)}",
    )
    parser.add_argument("--az-login", metavar="USER", help="put an az on PATH to which this other user is signed in")
    parser.add_argument("--shell", choices=SHELLS, help="syntax of the lines it prints; default: the calling shell's")
    parser.add_argument("--exec", action="store_true", help="may stand before COMMAND, for clarity")
    parser.add_command("run a command in the emulated environment, and exit with its status")


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted, or until the command has ended."""
    command = command_of(arguments.words) if arguments.words or arguments.exec else None
    with ExitStack() as stack:
        shell = _started(arguments, stack)
        variables = {**shell.environment, **without_proxy_for_loopback(os.environ)}
        azure = stack.enter_context(emulator.EmulatedAzure(shell)) if arguments.with_azure else None
        if azure is not None:
            variables.update(azure.environment)
        if arguments.az_login:
            variables.update(stack.enter_context(shell.programs("az")))
            shell.az_login(user=arguments.az_login)
        log_to_stderr("azure_cloudshell_credential.emulator", "WARNING" if command else "INFO")
        if command is None:
            _serve(shell, variables, arguments.shell or detect())
            status = 0
        else:
            with shell.as_environment():
                status = run_command(command, {**os.environ, **variables})
        if azure is not None and azure.refused:
            say(f"Refused, since nothing leaves this machine: {', '.join(azure.refused)}")
    return status


def _started(arguments: argparse.Namespace, stack: ExitStack) -> emulator.CloudShellEmulator:
    try:
        shell = emulator.CloudShellEmulator(
            port=arguments.port,
            identity=_identity(arguments),
            lifetime=arguments.lifetime or emulator.DEFAULT_LIFETIME,
            audiences=_audiences(arguments),
            latency=arguments.latency,
        )
        for name in arguments.deny or ():
            shell.deny(name)
        for name in arguments.fault or ():
            reply, count = faults.named(name)
            if count is None:
                stack.enter_context(shell.failing(reply))
            else:
                shell.script(*[reply] * count)
    except ValueError as error:
        raise CommandError(str(error), 2) from None
    try:
        shell.start()
    except OSError as error:
        raise cannot_listen(arguments.port, error) from None
    stack.callback(shell.stop)
    return shell


def _serve(shell: emulator.CloudShellEmulator, variables: dict[str, str], name_of_shell: str) -> None:
    stop = stop_signal()
    say(f"Emulating Cloud Shell's token endpoint at {shell.endpoint}.")
    say("Its tokens are made up: no Azure service accepts them. Ctrl-C stops it.")
    if shell.port != _HARD_CODED_PORT:
        say(f"az, azd and MSAL for Python do not find it: they ask port {_HARD_CODED_PORT}.")
    say("In another shell:")
    for name, value in variables.items():
        print(set_variable(name_of_shell, name, value), flush=True)
    stop.wait()
    say("Stopped.")


def _audiences(arguments: argparse.Namespace) -> list[str] | None:
    from ..emulator._emulator import identifiers_of

    if arguments.all_audiences:
        return None
    listed = [] if arguments.only_audience else list(emulator.DEFAULT_AUDIENCES)
    named = [*(arguments.only_audience or ()), *(arguments.audience or ())]
    return [*listed, *(identifier for name in named for identifier in identifiers_of(name))]


def _identity(arguments: argparse.Namespace) -> emulator.Identity:
    changes: dict[str, Any] = {"tenant_id": arguments.tenant, "user": arguments.user}
    return emulator.Identity().changed(**{name: value for name, value in changes.items() if value})
