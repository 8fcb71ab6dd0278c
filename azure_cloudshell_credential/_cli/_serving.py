"""What ``serve`` and ``emulate`` have in common: they listen, say so, and stop when they are told to."""

from __future__ import annotations

import signal
import sys
from threading import Event

from . import CommandError


def cannot_listen(port: int, error: OSError) -> CommandError:
    """The error of a command that cannot have its port."""
    return CommandError(
        f"Cannot listen on port {port}: {error.strerror or error}. Stop what listens there, or take a "
        "free port with --port 0."
    )


def stop_signal() -> Event:
    """What is set by Ctrl-C or SIGTERM, from now on."""
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def say(text: str) -> None:
    """Print beside the lines for the shell, which alone are on stdout: they are for eval."""
    print(text, file=sys.stderr, flush=True)
