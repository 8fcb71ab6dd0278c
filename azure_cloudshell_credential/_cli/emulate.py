"""``azure-cloudshell emulate``."""

from __future__ import annotations

import argparse
import logging
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

from .._protocol import claims_of
from ..emulator import DEFAULT_AUDIENCES, DEFAULT_LIFETIME, CloudShellEmulator, Identity
from . import CommandError


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted, or until the command has ended."""
    command = arguments.exec
    if command is not None and not command:
        raise CommandError("--exec needs a command.", 2)
    credential = _credential(arguments.credential) if arguments.credential else None
    shell = CloudShellEmulator(
        port=arguments.port,
        identity=_identity(arguments, credential),
        lifetime=arguments.lifetime or DEFAULT_LIFETIME,
        audiences=arguments.audience or (None if credential else DEFAULT_AUDIENCES),
        latency=arguments.latency,
        credential=credential,
    )
    try:
        shell.start()
    except OSError as error:
        raise CommandError(
            f"Cannot listen on port {arguments.port}: {error.strerror}. Stop what listens there, or take a free port "
            "with --port 0."
        ) from None
    try:
        return _execute(shell, command) if command else _serve(shell, is_real=credential is not None)
    finally:
        shell.stop()


def _serve(shell: CloudShellEmulator, *, is_real: bool) -> int:
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    _say(f"Emulating Cloud Shell's token endpoint at {shell.endpoint}.")
    if is_real:
        _say("Its tokens are REAL: every program on this machine can get one and act as you. Ctrl-C stops it.")
    else:
        _say("Its tokens are made up: no Azure service accepts them. Ctrl-C stops it.")
    _say("In another shell:")
    for name, value in shell.environment.items():
        print(f"export {name}={shlex.quote(value)}", flush=True)
    _log_requests()
    stop.wait()
    _say("Stopped.")
    return 0


def _execute(shell: CloudShellEmulator, command: list[str]) -> int:
    # Ctrl-C is for the command, which does not inherit this handler; we go when it has gone.
    signal.signal(signal.SIGINT, lambda *_: None)
    with shell.as_environment():
        try:
            process = subprocess.Popen(command)  # noqa: S603 - running the user's command is what --exec is for
        except OSError as error:
            raise CommandError(f"Cannot run {command[0]}: {error.strerror}.", 127) from None
    status = process.wait()
    return 128 - status if status < 0 else status


def _credential(name: str) -> Any:
    """The credential that ``--credential`` names."""
    if name == "az":
        from azure.identity import AzureCliCredential

        return AzureCliCredential(process_timeout=30)
    if name == "default":
        from azure.identity import DefaultAzureCredential

        return DefaultAzureCredential(process_timeout=30)
    module, colon, factory = name.partition(":")
    if not colon or not module or not factory:
        raise CommandError(f"--credential is az, default or MODULE:FACTORY, not {name!r}.", 2)
    from importlib import import_module

    sys.path.insert(0, str(Path.cwd()))
    try:
        credential = getattr(import_module(module), factory)()
    except (ImportError, AttributeError) as error:
        raise CommandError(f"Cannot make a credential with {name}: {error}.") from None
    if not callable(getattr(credential, "get_token", None)):
        raise CommandError(f"What {name}() returns is no credential: it has no get_token.")
    return credential


def _identity(arguments: argparse.Namespace, credential: Any) -> Identity:
    """Who is signed in: as the arguments say, else as a real token says, else the made-up user."""
    changes = {}
    if credential is not None:
        try:
            claims = claims_of(credential.get_token("https://management.azure.com/.default").token)
        except Exception as error:
            _say(f"The credential has no token for Azure Resource Manager at the moment: {error}")
        else:
            names = {"tenant_id": "tid", "object_id": "oid", "user": "upn", "name": "name"}
            changes = {field: str(claims[claim]) for field, claim in names.items() if claims.get(claim)}
    if arguments.tenant:
        changes["tenant_id"] = arguments.tenant
    if arguments.user:
        changes["user"] = arguments.user
    return Identity().changed(**changes)


def _say(text: str) -> None:
    # Beside the export lines, which alone are on stdout: they are for eval.
    print(text, file=sys.stderr, flush=True)


def _log_requests() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("azure_cloudshell_credential.emulator")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
