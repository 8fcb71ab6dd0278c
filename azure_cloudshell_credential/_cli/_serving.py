"""What ``serve`` and ``emulate`` have in common: they listen, say so, and stop when they are told to."""

from __future__ import annotations

import signal
import sys
from threading import Event

from .._serving.server import PortInUseError
from . import CommandError


def cannot_listen(port: int, error: OSError, address: str = "127.0.0.1") -> CommandError:
    """The error of a command that cannot have its port."""
    if isinstance(error, PortInUseError):
        return CommandError(f"Port {port} is in use. Stop what listens there, or take a free port with --port 0.")
    return CommandError(f"Cannot listen on {address}, port {port}: {error.strerror or error}.")


def stop_signal() -> Event:
    """What is set by Ctrl-C or SIGTERM, from now on."""
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def say(text: str) -> None:
    """Print to stderr: stdout is for eval."""
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)
