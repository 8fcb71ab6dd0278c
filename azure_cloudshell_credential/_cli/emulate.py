"""``azure-cloudshell emulate``."""

from __future__ import annotations

import argparse
import logging
import shlex
import signal
import sys
from threading import Event

from . import CommandError


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from ..emulator import CloudShellEmulator

    shell = CloudShellEmulator(port=arguments.port, lifetime=arguments.lifetime)
    try:
        shell.start()
    except OSError as error:
        raise CommandError(
            f"Cannot listen on port {arguments.port}: {error.strerror}. Stop what listens there, or take a free port "
            "with --port 0."
        ) from None
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        _say(f"Emulating Cloud Shell's token endpoint at {shell.endpoint}.")
        _say("Its tokens are made up: no Azure service accepts them. Ctrl-C stops it. In another shell:")
        for name, value in shell.environment.items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        _log_requests()
        stop.wait()
    except KeyboardInterrupt:
        _say("")
    finally:
        shell.stop()
    _say("Stopped.")
    return 0


def _say(text: str) -> None:
    # Beside the export lines, which alone are on stdout: they are for eval.
    print(text, file=sys.stderr, flush=True)


def _log_requests() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("azure_cloudshell_credential.emulator")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
