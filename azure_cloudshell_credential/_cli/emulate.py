"""``azure-cloudshell emulate``."""

from __future__ import annotations

import argparse
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from .. import emulator
from .._endpoint.audiences import identifiers_of
from .._serving.proxies import without_proxy
from .._serving.variables import OF_THIS_MACHINE, SIGN_INS
from ..emulator import faults
from ._apart import served_apart
from ._become import become
from ._errors import CommandError
from ._foreground import cannot_listen, say, stop_signal
from ._log import log_to_stderr
from ._parser import Parser, latency, port, positive, resource
from ._shells import SHELLS, detect, set_variable, unset_variable

_HARD_CODED_PORT = 50342
_POWERSHELL = ("pwsh", "powershell")
_AUDIENCES = {
    "--audience": "support this audience too, such as vault",
    "--only-audience": "support this audience and no other",
    "--deny": "do not support this audience",
}

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
        help="port to listen on; 0 picks a free one; tools with a hard-coded address need %(default)s, the default",
    )
    parser.add_argument("--tenant", metavar="ID", help="tenant to emulate")
    parser.add_argument("--user", metavar="NAME", help="user to emulate")
    parser.add_argument("--lifetime", type=positive, metavar="SECONDS", help="token lifetime (3900)")
    for option, meaning in _AUDIENCES.items():
        parser.add_argument(option, action="append", type=resource, metavar="NAME", help=f"{meaning}; may be repeated")
    parser.add_argument("--all-audiences", action="store_true", help="support every audience")
    parser.add_argument("--latency", type=latency, default=0.0, metavar="SECONDS", help="wait before each reply")
    parser.add_argument(
        "--with-azure",
        action="store_true",
        help="also emulate Azure Resource Manager, for unmodified programs that read proxy variables, and refuse them "
        "every other host",
    )
    parser.add_argument(
        "--fault",
        action="append",
        metavar="NAME[:COUNT]",
        help=f"fail like this, always or COUNT times; may be repeated. NAME: {', '.join(faults.NAMED)}",
    )
    parser.add_argument("--az-login", metavar="USER", help="put an az on PATH that this other user is signed in to")
    parser.add_argument(
        "--own-sign-in",
        action="store_true",
        help="do not hide your own sign-ins from COMMAND",
    )
    parser.add_argument("--shell", choices=SHELLS, help="syntax of the lines it prints; default: the calling shell's")
    parser.add_argument("--exec", action="store_true", help="may precede COMMAND")
    parser.add_command("run a command in the emulated environment, and exit with its status")


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted; or start serving beside this process, and become the command."""
    settings = vars(arguments)
    if arguments.own_sign_in and (arguments.with_azure or arguments.az_login):
        raise CommandError("--own-sign-in cannot be combined with --with-azure or --az-login.", 2)
    if arguments.words:
        with served_apart("emulate", settings, waits=True) as variables:
            removed = _removed(settings)
            kept = {name: value for name, value in os.environ.items() if name not in removed}
            return become(_not_a_stand_in(arguments.words), {**kept, **variables})
    if arguments.exec:
        raise CommandError("--exec needs a command, such as: azure-cloudshell emulate --exec python my_script.py", 2)
    with serve(settings, ()) as variables:
        _show(variables, _removed(settings), arguments.shell or detect())
    say("Stopped.")
    return 0


def _removed(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The variables to remove before those that lead to the emulator are set."""
    return OF_THIS_MACHINE if settings["with_azure"] else SIGN_INS


def _not_a_stand_in(words: list[str]) -> list[str]:
    """The command; where it is PowerShell, the real one, whatever the programs that it starts find on PATH."""
    found = shutil.which(words[0]) if words[0] in _POWERSHELL else None
    return [found or words[0], *words[1:]]


@contextmanager
def serve(settings: Mapping[str, Any], _listeners: Sequence[socket.socket]) -> Iterator[dict[str, str]]:
    """Serve, in the process beside a command or in this one.

    :return: the variables that lead programs here.
    """
    from ..emulator._isolation import sealed_off, without_sign_ins

    log_to_stderr("azure_cloudshell_credential.emulator", "WARNING" if settings["words"] else "INFO")
    with ExitStack() as stack:
        shell = _started(settings, stack)
        variables = {**shell.environment, **without_proxy(os.environ)}
        azure = stack.enter_context(emulator.EmulatedAzure(shell)) if settings["with_azure"] else None
        stand_ins = ("az",) if settings["az_login"] else ()
        if azure is not None:
            hidden = stack.enter_context(sealed_off(shell, *_POWERSHELL, *stand_ins))
            variables.update({**hidden, **azure.environment})
            if stand_ins:
                variables["AZURE_CONFIG_DIR"] = hidden["AZURE_CONFIG_DIR"]
        elif settings["words"] and not settings["own_sign_in"]:
            hidden = stack.enter_context(without_sign_ins(shell, *_POWERSHELL, *stand_ins))
            if not stand_ins and not any(map(shutil.which, _POWERSHELL)):
                del hidden["PATH"]
            variables.update(hidden)
        elif stand_ins:
            variables.update(stack.enter_context(shell.programs(*stand_ins)))
        if stand_ins:
            shell.az_login(user=settings["az_login"])
        yield variables
        if azure is not None and azure.refused:
            say(f"Refused, since nothing leaves this machine: {', '.join(azure.refused)}")


def _started(settings: Mapping[str, Any], stack: ExitStack) -> emulator.CloudShellEmulator:
    try:
        shell = emulator.CloudShellEmulator(
            port=settings["port"],
            identity=_identity(settings),
            lifetime=settings["lifetime"],
            audiences=_audiences(settings),
            latency=settings["latency"],
        )
        for name in settings["deny"] or ():
            shell.deny(name)
        for name in settings["fault"] or ():
            reply, count = faults.named(name)
            if count is None:
                stack.enter_context(shell.failing(reply))
            else:
                shell.script(*[reply] * count)
    except ValueError as error:
        raise CommandError(str(error), 2) from None
    try:
        return stack.enter_context(shell)
    except OSError as error:
        raise cannot_listen(settings["port"], error) from None


def _audiences(settings: Mapping[str, Any]) -> list[str] | None:
    if settings["all_audiences"]:
        return None
    listed = [] if settings["only_audience"] else list(emulator.DEFAULT_AUDIENCES)
    named = [*(settings["only_audience"] or ()), *(settings["audience"] or ())]
    return [*listed, *(identifier for name in named for identifier in identifiers_of(name))]


def _identity(settings: Mapping[str, Any]) -> emulator.Identity:
    changes = {"tenant_id": settings["tenant"], "user": settings["user"]}
    return emulator.Identity().changed(**{name: value for name, value in changes.items() if value})


def _show(variables: Mapping[str, str], removed: Sequence[str], name_of_shell: str) -> None:
    """Print the variables, and wait until interrupted."""
    wait = stop_signal()
    endpoint = variables["MSI_ENDPOINT"]
    say(f"Emulating Cloud Shell's token endpoint at {endpoint}.")
    say("Its tokens are made up: no Azure service accepts them. Ctrl-C stops it.")
    if f":{_HARD_CODED_PORT}/" not in endpoint:
        say(f"az, azd and MSAL for Python do not find it: they ask port {_HARD_CODED_PORT}.")
    say("In another shell:")
    for name in removed:
        if name in os.environ and name not in variables:
            print(unset_variable(name_of_shell, name))
    for name, value in variables.items():
        print(set_variable(name_of_shell, name, value), flush=True)
    wait()
