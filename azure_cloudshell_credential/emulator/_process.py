"""This process inside an emulated Cloud Shell: its environment variables, its credentials, and az on its PATH."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from .._azure.credential import living
from .._serving.variables import SIGN_INS
from ._azure_cli import Programs


class Process:
    """What an emulator changes in this process.

    :param environment: the variables of the emulated Cloud Shell, at the time.
    """

    def __init__(self, environment: Callable[[], Mapping[str, str]]) -> None:
        self._environment = environment
        self._times_entered = 0

    @contextmanager
    def inside(self, more: Mapping[str, str | None]) -> Iterator[None]:
        """Set ``os.environ``, and restore it afterwards. All credentials follow.

        :param more: further variables; None removes one.
        """
        try:
            with _changed({**dict.fromkeys(SIGN_INS), **self._environment(), **more}):
                self._times_entered += 1
                begin_all_anew()
                try:
                    yield
                finally:
                    self._times_entered -= 1
        finally:
            begin_all_anew()

    def follow(self) -> None:
        """Set the variables again, which are different now, if this process is inside."""
        if self._times_entered:
            os.environ.update(self._environment())


def forget_all_tokens() -> None:
    """Let every credential of this process ask for new tokens."""
    for credential in living():
        credential._forget_tokens()


def begin_all_anew() -> None:
    """Let every credential of this process begin anew, in the environment as it is now."""
    for credential in living():
        with suppress(OSError, ValueError):
            credential._begin_anew()


@contextmanager
def stand_ins(programs: Programs, port: int, names: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Stand-ins for programs, in a folder that is removed afterwards.

    :param names: which; all if none is named.
    :return: the variables that put them first on PATH.
    """
    with TemporaryDirectory() as folder:
        yield programs.install(Path(folder), port, names)
        programs.uninstall()


@contextmanager
def _changed(changes: Mapping[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
