"""A process that serves a command for as long as it lives, apart from it, as ssh-agent does.

It has a session of its own, so no signal of the command's terminal or process group reaches it. It is not a child of
the command, which may wait for all of its children; but where the command is process 1, as in a container without an
init (``docker run --init``), the system makes it one. Of the descriptors that the command was given it holds stderr
alone, for warnings, and it ends with the command, so that ``x=$(... 2>&1)`` does too. If it is killed, the next request
is refused at once: no other process holds the socket.

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
from io import TextIOWrapper
from threading import Event, Thread
from time import sleep
from typing import Any

from ._errors import CommandError, message_of
from ._foreground import say

_PROGRAM = (
    # Nothing is imported before the places of modules are known: json is not to come from the current directory.
    "import sys; pipe = open(int(sys.argv[1]), encoding='utf-8', errors='surrogateescape'); "
    "*sys.path, given = pipe.read().split('\\0'); pipe.close(); "
    "from azure_cloudshell_credential._cli._apart import main; main(given, list(map(int, sys.argv[2:-1])))"
)
_ISOLATING = {"isolated": "-I", "ignore_environment": "-E", "no_user_site": "-s", "no_site": "-S", "safe_path": "-P"}
"""Flags of the interpreter that keep other people's modules out, by their names in ``sys.flags``."""

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 0.7
"""From the end of the command to that of the serving process, whatever it is doing then."""


@contextmanager
def served_apart(
    module: str,
    settings: Mapping[str, Any],
    listeners: Sequence[socket.socket] = (),
    *,
    waits: bool,
) -> Iterator[Mapping[str, str]]:
    """Start a process that serves the command which this process becomes inside the ``with`` block.

    For example:

        with served_apart("run", settings, [listener], waits=False) as variables:
            return become(command, {**os.environ, **variables})

    :param module: a module of this folder. Its ``serve(settings, listeners)`` is a context manager, entered in the
        serving process and left when the command has ended; it yields the variables that the command needs.
    :param settings: what JSON can hold, secrets too: they go through a pipe.
    :param listeners: listening sockets for the serving process. This process keeps them until it becomes the command.
    :param waits: whether to wait until it serves. Without, it yields no variables, and the serving process tells its
        errors itself.
    :raises CommandError: if it cannot serve.
    """
    if not hasattr(os, "fork"):
        with import_module(f".{module}", __package__).serve(settings, list(listeners)) as variables:
            yield variables
        return
    if getattr(sys, "frozen", False):
        # sys.executable is the program itself there, not an interpreter that could serve.
        raise CommandError("A frozen azure-cloudshell cannot serve a command: install azure-cloudshell-credential.")
    given = {"module": module, "settings": settings, "command": os.getpid(), "listeners": len(listeners)}
    out, into = os.pipe()
    report, reporting = os.pipe()
    descriptors = [reporting, *_descriptor_of_this_process(), *(each.fileno() for each in listeners)]
    child = os.fork()
    if child == 0:
        _leave([out, *descriptors])
    os.close(out)
    os.close(reporting)
    with suppress(ChildProcessError):
        # Where the caller ignores SIGCHLD, there is no child to wait for.
        os.waitpid(child, 0)
    with suppress(BrokenPipeError), open(into, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("\0".join([*module_path(), json.dumps(given)]))
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


def _leave(descriptors: list[int]) -> None:
    """Become the serving process. It holds these descriptors, stderr and no others. Never returns."""
    with suppress(BaseException):
        os.setsid()
        if os.fork() == 0:
            import fcntl

            # They have 0, 1 and 2 if the caller has closed those. All are inherited.
            kept = [each if each > 2 else fcntl.fcntl(each, fcntl.F_DUPFD, 3) for each in descriptors]
            for descriptor in kept:
                os.set_inheritable(descriptor, True)
            _close_others(kept)
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            if sys.stderr is None:
                # The caller has closed it.
                os.dup2(null, 2)
            # A credential may ask its user to sign in, and the output is the command's.
            os.dup2(2, 1)
            for number in range(3):
                # One of them may be the null device as it was opened.
                os.set_inheritable(number, True)
            if null > 2:
                os.close(null)
            flags = {flag for name, flag in _ISOLATING.items() if getattr(sys.flags, name, False)}
            if sys.version_info >= (3, 11):
                # The places of modules are told. Python 3.13.0 imports nothing where the current directory is gone.
                flags.add("-P")
            words = [sys.executable, *flags, "-c", _PROGRAM, *map(str, kept), "azure-cloudshell"]
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


def main(sent: str, descriptors: list[int]) -> None:
    """Serve until the command has ended.

    :param sent: what ``served_apart`` has sent.
    :param descriptors: to report on, for the end of the command where there is one, and the listeners.
    """
    given = json.loads(sent)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    reporting, rest = descriptors[0], descriptors[1:]
    count = given["listeners"]
    listeners = [socket.socket(fileno=descriptor) for descriptor in rest[len(rest) - count :]]
    ends = rest[: len(rest) - count]
    # Inherited by this process, and by none that it starts, such as az.
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    ended = Event()
    # From now on: the user's own code that makes a credential may hang.
    Thread(target=_watch, args=(ended, given["command"], *ends), daemon=True).start()
    try:
        with import_module(f".{given['module']}", __package__).serve(given["settings"], listeners) as variables:
            _report(reporting, {"variables": dict(variables)})
            ended.wait()
    except (Exception, KeyboardInterrupt) as error:
        # Nobody has pressed Ctrl-C here: the user's own code raises what it likes.
        said = message_of(error, given["module"]) if isinstance(error, Exception) else type(error).__name__
        status = error.status if isinstance(error, CommandError) else 1
        if not _report(reporting, {"error": said, "status": status}):
            say(f"azure-cloudshell: {said}")
        if given["settings"].get("debug"):
            raise


def _report(descriptor: int, content: Mapping[str, Any]) -> bool:
    """Tell the command; False if it has not waited for it."""
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")
    except OSError:
        return False
    return True


def _watch(ended: Event, process: int, *descriptors: int) -> None:
    """When the command has ended, let this process end; and if it does not in time, end it."""
    try:
        _wait_for_end(process, *descriptors)
    except Exception as error:
        # It would go on serving after the command has ended.
        say(f"azure-cloudshell: the broker stops, since it cannot watch its command: {type(error).__name__}")
    ended.set()
    sleep(_GRACE_SECONDS)
    os._exit(1)


def _wait_for_end(process: int, descriptor: int | None = None) -> None:
    """Return when a process has ended."""
    if descriptor is not None:
        # Not select(), which takes no descriptor above 1,023.
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll()
    elif sys.platform != "linux" and hasattr(select, "kqueue"):
        event = select.kevent(process, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
        with suppress(ProcessLookupError):
            select.kqueue().control([event], 1)
    else:
        while _is_there(process):
            sleep(_POLL_SECONDS)


def _is_there(process: int) -> bool:
    with suppress(OSError), open(f"/proc/{process}/stat", "rb") as file:
        if file.read().rpartition(b") ")[2].startswith(b"Z"):
            # It has ended, and its parent may be reading the stderr that we hold before it waits for it.
            return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It has become another user's, as sudo does.
        pass
    return True
