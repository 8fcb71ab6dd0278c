"""Becoming the command that the user named, as ``env`` and ``nohup`` do.

There is no parent process that could pass on signals, statuses or descriptors wrongly: from here on they are between
the operating system and the command.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

from ._errors import CommandError

_SHELL = "/bin/sh"
_NOT_HERE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT)
"""The errors after which execvp looks at the next folder of PATH (glibc, posix/execvpe.c)."""


def become(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Replace this process by a command. Where there is no exec (Windows), run it to its end.

    :param command: the program and its arguments.
    :param environment: all of its variables; their PATH is searched.
    :return: the exit status, only where there is no exec.
    :raises CommandError: 127 if there is no such command, 126 if it cannot be executed.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    try:
        if not hasattr(os, "fork"):
            import subprocess

            return subprocess.call(list(command), env=dict(environment))  # noqa: S603 - the user's own command
        # Python ignores these two, and a command inherits what is ignored: `run -- sh -c 'yes | head'` would not end.
        # Whether its caller had ignored them nobody can tell any more.
        for name in ("SIGPIPE", "SIGXFSZ"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        _exec(command, _with_own_locale(environment))
    except FileNotFoundError as error:
        said = error.strerror if "/" in command[0] else "command not found"
        raise CommandError(f"{command[0]}: {said}", 127) from None
    except (OSError, ValueError) as error:
        # A ValueError is a null byte, which no command line of a shell has.
        raise CommandError(f"{command[0]}: {getattr(error, 'strerror', None) or error}", 126) from None


def _with_own_locale(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables, with ``LC_CTYPE`` as it was given: Python sets its own where the locale is C (PEP 538)."""
    variables = dict(environment)
    with suppress(OSError), open("/proc/self/environ", "rb") as file:
        given = dict(each.partition(b"=")[::2] for each in file.read().split(b"\0"))
        variables.pop("LC_CTYPE", None)
        if (locale := given.get(b"LC_CTYPE")) is not None:
            variables["LC_CTYPE"] = os.fsdecode(locale)
    return variables


def _exec(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Do as execvp does, which Python's own does not: it never runs a file without ``#!``."""
    name, words = command[0], list(command)
    folders: list[str | None] = [None] if "/" in name else [*os.get_exec_path(environment)]
    failure: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for folder in folders if name else ():
        path = name if folder is None else os.path.join(folder or ".", name)
        try:
            os.execve(path, words, environment)  # noqa: S606 - the user's own command
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                os.execve(_SHELL, [_SHELL, path, *words[1:]], environment)  # noqa: S606 - as above
            if error.errno == errno.EACCES:
                failure = error
            elif folder is None or error.errno not in _NOT_HERE:
                raise
    raise failure
