"""``azure-cloudshell emulate``."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from typing import Any

from .._endpoint.environment import without_proxy_for_loopback
from ..emulator import DEFAULT_AUDIENCES, DEFAULT_LIFETIME, CloudShellEmulator, EmulatedAzure, Identity, faults
from ..emulator._emulator import identifiers_of
from . import CommandError
from ._child import command_of, run_command
from ._log import log_to_stderr
from ._serving import cannot_listen, say, stop_signal
from ._shells import detect, set_variable

_HARD_CODED_PORT = 50342


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted, or until the command has ended."""
    command = command_of(arguments.words) if arguments.words is not None else None
    with ExitStack() as stack:
        shell = _started(arguments, stack)
        variables = {**shell.environment, **without_proxy_for_loopback(os.environ)}
        azure = stack.enter_context(EmulatedAzure(shell)) if arguments.with_azure else None
        if azure is not None:
            variables.update(azure.environment)
        if arguments.az_login is not None:
            variables.update(stack.enter_context(shell.programs("az")))
            shell.az_login(user=arguments.az_login or None)
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


def _started(arguments: argparse.Namespace, stack: ExitStack) -> CloudShellEmulator:
    try:
        shell = CloudShellEmulator(
            port=arguments.port,
            identity=_identity(arguments),
            lifetime=arguments.lifetime or DEFAULT_LIFETIME,
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


def _serve(shell: CloudShellEmulator, variables: dict[str, str], name_of_shell: str) -> None:
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
    if arguments.all_audiences:
        return None
    listed = [] if arguments.only_audience else list(DEFAULT_AUDIENCES)
    named = [*(arguments.only_audience or ()), *(arguments.audience or ())]
    return [*listed, *(identifier for name in named for identifier in identifiers_of(name))]


def _identity(arguments: argparse.Namespace) -> Identity:
    changes: dict[str, Any] = {"tenant_id": arguments.tenant, "user": arguments.user}
    return Identity().changed(**{name: value for name, value in changes.items() if value})
