"""Running the user's command inside an environment, and leaving nothing of it behind.

Its exit status, standard input and output are its own. Ctrl-C reaches it from the terminal; SIGTERM, SIGHUP and SIGQUIT
are passed on. The command ends with this process, so that it does not keep asking an endpoint that
is gone. On Linux the kernel ensures that even for SIGKILL.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import CommandError

_PASSED_ON = ("SIGTERM", "SIGHUP", "SIGQUIT")
_PR_SET_PDEATHSIG = 1


def run_command(
    command: Sequence[str], environment: Mapping[str, str], when_started: Callable[[], None] = lambda: None
) -> int:
    """Run a command to its end.

    :param environment: all of its variables.
    :param when_started: called once it runs.
    :return: its exit status; 128 and the number of the signal that ended it, as shells have it.
    :raises CommandError: 127 if there is no such command, 126 if it cannot be run.
    """
    child: subprocess.Popen[bytes] | None = None
    pending: list[int] = []

    def pass_on(number: int, _: Any) -> None:
        if child is None:
            pending.append(number)
        else:
            child.send_signal(number)

    signals = [getattr(signal, name) for name in _PASSED_ON if hasattr(signal, name)]
    before = {number: signal.signal(number, pass_on) for number in signals}
    # The terminal sends Ctrl-C to the command as well, which decides what it means.
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        child = _start(command, environment)
        when_started()
        for number in pending:
            child.send_signal(number)
        status = child.wait()
    except FileNotFoundError:
        raise CommandError(f"There is no command {command[0]}.", 127) from None
    except OSError as error:
        raise CommandError(f"Cannot run {command[0]}: {error.strerror}.", 126) from None
    finally:
        if child is not None and child.poll() is None:
            child.terminate()
            child.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - status if status < 0 else status


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # Running the user's command is what this is for; what the child does before it takes no lock of Python's.
    return subprocess.Popen(list(command), env=dict(environment), preexec_fn=_ends_with_parent())  # noqa: S603, PLW1509


def _ends_with_parent() -> Any:
    """What a child does before it becomes the command: ask the kernel for a SIGTERM when its parent is gone."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        # It may have gone before the kernel was asked.
        if os.getppid() != parent:
            os._exit(1)

    return ask


def command_of(words: Sequence[str] | None) -> list[str]:
    """The command that the rest of the line names.

    :raises CommandError: if there is none.
    """
    command = list(words or ())
    if not command:
        raise CommandError("A command is needed, such as: azure-cloudshell run -- python app.py", 2)
    return command
