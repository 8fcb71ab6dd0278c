"""A process that serves a command for as long as it lives, apart from it, as ssh-agent does.

It has a session of its own, so no signal of the command's terminal or process group reaches it. It is not a child of
the command, which may wait for all of its children. It holds none of the descriptors that the command was given, and it
ends with the command. If it is killed, the next request is refused at once: no other process holds the socket.

``served_apart`` is called by the process that then becomes the command, ``main`` is what the serving process runs.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from time import sleep
from typing import Any

from . import CommandError, message_of

_PROGRAM = (
    # The current directory is not where this package's modules come from, nor json.
    "import sys; sys.path = [place for place in sys.path if place]; import json; "
    "pipe = open(int(sys.argv[1])); given = json.load(pipe); pipe.close(); sys.path = given['path']; "
    "from azure_cloudshell_credential._cli._apart import main; main(given, list(map(int, sys.argv[2:-1])))"
)
_POLL_SECONDS = 0.5


@contextmanager
def served_apart(
    module: str,
    settings: Mapping[str, Any],
    listeners: Sequence[socket.socket] = (),
    *,
    waits: bool,
    shows_errors: bool = False,
) -> Iterator[Mapping[str, str]]:
    """Start a process that serves the command which this process becomes inside the ``with`` block.

    For example:

        with served_apart("run", settings, [listener], waits=False) as variables:
            return become(command, {**os.environ, **variables})

    :param module: a module of this folder. Its ``serve(settings, listeners)`` is a context manager, entered in the
        serving process and left when the command has ended; it yields the variables that the command needs.
    :param settings: what JSON can hold, secrets too: they go through a pipe.
    :param listeners: listening sockets for the serving process. This process keeps them until it becomes the command.
    :param waits: whether to wait until it serves. Without, it yields no variables, and its errors are not told.
    :param shows_errors: whether the serving process may write to stderr, which it then holds open.
    :raises CommandError: if it cannot serve.
    """
    if not hasattr(os, "fork"):
        with import_module(f".{module}", __package__).serve(settings, list(listeners)) as variables:
            yield variables
        return
    given = {"module": module, "settings": settings, "command": os.getpid(), "path": module_path()}
    out, into = os.pipe()
    report, reporting = os.pipe()
    descriptors = [reporting, *_descriptor_of_this_process(), *(each.fileno() for each in listeners)]
    child = os.fork()
    if child == 0:
        _leave([out, *descriptors], shows_errors=shows_errors)
    os.close(out)
    os.close(reporting)
    with suppress(ChildProcessError):
        # Where the caller ignores SIGCHLD, there is no child to wait for.
        os.waitpid(child, 0)
    with suppress(BrokenPipeError), open(into, "w", encoding="utf-8") as file:
        json.dump({**given, "listeners": len(listeners)}, file)
    with open(report, encoding="utf-8") as file:
        said = json.loads(file.readline() or "{}") if waits else {"variables": {}}
    if "variables" not in said:
        raise CommandError(
            said.get("error", "The process that serves the command did not start."), said.get("status", 1)
        )
    yield said["variables"]


def module_path() -> list[str]:
    """Where the serving process finds modules: as this one, without the current directory."""
    try:
        here = os.getcwd()
    except FileNotFoundError:
        # It has been removed, and nothing can be in it.
        here = ""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    places = [place for place in sys.path if place and os.path.abspath(place) != here]
    return places if package in places else [*places, package]


def _descriptor_of_this_process() -> list[int]:
    """A descriptor that tells when this process has ended, where the system has such."""
    with suppress(AttributeError, OSError):
        return [os.pidfd_open(os.getpid())]
    return []


def _leave(descriptors: list[int], *, shows_errors: bool) -> None:
    """Become the serving process. It holds these descriptors and no others. Never returns."""
    with suppress(BaseException):
        os.setsid()
        if os.fork() == 0:
            import fcntl

            # Out of the way of 0, 1 and 2, which they may have if the caller has closed those; and inherited.
            kept = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10) for descriptor in descriptors]
            null = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1) if shows_errors else (0, 1, 2):
                os.dup2(null, number)
            _close_others(kept)
            words = [sys.executable, "-c", _PROGRAM, *map(str, kept), "azure-cloudshell"]
            os.execv(sys.executable, words)  # noqa: S606 - ourselves
    os._exit(1)


def _close_others(kept: list[int]) -> None:
    try:
        numbers = map(int, os.listdir("/dev/fd"))
    except OSError:
        numbers = map(int, range(1024))
    for number in numbers:
        if number > 2 and number not in kept:
            # One of them was the folder's own.
            with suppress(OSError):
                os.close(number)


def main(given: Mapping[str, Any], descriptors: list[int]) -> None:
    """Serve until the command has ended.

    :param given: what ``served_apart`` has sent.
    :param descriptors: to report on, for the end of the command where there is one, and the listeners.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    reporting, rest = descriptors[0], descriptors[1:]
    count = given["listeners"]
    listeners = [socket.socket(fileno=descriptor) for descriptor in rest[len(rest) - count :]]
    ends = rest[: len(rest) - count]
    # Inherited by this process, and by none that it starts, such as az.
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    try:
        with import_module(f".{given['module']}", __package__).serve(given["settings"], listeners) as variables:
            _report(reporting, {"variables": dict(variables)})
            _wait_for_end(given["command"], *ends)
    except Exception as error:
        status = error.status if isinstance(error, CommandError) else 1
        _report(reporting, {"error": message_of(error, given["module"]), "status": status})
        if given["settings"].get("debug"):
            raise


def _report(descriptor: int, content: Mapping[str, Any]) -> None:
    # The command may not have waited for it.
    with suppress(OSError), open(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")


def _wait_for_end(process: int, descriptor: int | None = None) -> None:
    """Return when a process has ended."""
    if descriptor is not None:
        select.select([descriptor], [], [])
    elif sys.platform != "linux" and hasattr(select, "kqueue"):
        event = select.kevent(process, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
        with suppress(ProcessLookupError):
            select.kqueue().control([event], 1)
    else:
        while _is_there(process):
            sleep(_POLL_SECONDS)


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It has become another user's, as sudo does.
        pass
    return True
