"""What ``serve`` and ``emulate`` have in common: they listen, say so, and stop when they are told to."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Lock

from .._serving.server import PortInUseError
from ._errors import CommandError


def cannot_listen(port: int, error: OSError, address: str = "127.0.0.1") -> CommandError:
    """The error of a command that cannot have its port."""
    if isinstance(error, PortInUseError):
        return CommandError(f"Port {port} is in use. Stop what listens there, or take a free port with --port 0.")
    if error.errno == errno.EADDRNOTAVAIL:
        from ._addresses import addresses

        there = f" It has {', '.join(found)}." if (found := addresses()) else ""
        return CommandError(f"Cannot listen on {address}: this machine does not have that address.{there}")
    return CommandError(f"Cannot listen on {address}, port {port}: {error.strerror or error}.")


def stop_signal() -> Callable[[], None]:
    """Take Ctrl-C and SIGTERM from now on.

    :return: waits until one of them has come.
    """
    # Not an Event: a handler that sets it while its own thread is about to wait for it never returns.
    running = Lock()
    running.acquire()

    def stop(*_: object) -> None:
        with suppress(RuntimeError):
            running.release()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)

    def wait() -> None:
        # On Windows, only a wait with a timeout lets the handler run.
        while not running.acquire(timeout=1):
            pass

    return wait


def say(text: str) -> None:
    """Print to stderr: stdout is for eval."""
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)
