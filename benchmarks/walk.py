"""Which functions of this package a token passes through, in order, and how often the way goes to another file.

For reading, not for speed: a reader who follows one scope opens these files, so often.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import requests

from azure_cloudshell_credential import CloudShellCredential, DefaultCloudShellCredential
from azure_cloudshell_credential.broker import CloudShellBroker
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .measuring import SCOPE

PACKAGE = Path(__file__).parent.parent / "azure_cloudshell_credential"
EMULATOR = f"emulator{os.sep}"
VAULT = "https://vault.azure.net/.default"


class Call(NamedTuple):
    """One call of a function of this package."""

    file: str
    function: str


class Walk(NamedTuple):
    """The calls that something makes, in the order in which a reader follows them."""

    what: str
    calls: list[Call]

    @property
    def files(self) -> int:
        """How many files they are in."""
        return len({call.file for call in self.calls})

    @property
    def changes(self) -> int:
        """How often one is in another file than the one before it."""
        return sum(before.file != after.file for before, after in pairwise(self.calls))


@contextmanager
def _recorded() -> Iterator[dict[int, list[Call]]]:
    """The calls made meanwhile, for each thread: this one and those that are started."""
    threads: dict[int, list[Call]] = {}
    start = f"{PACKAGE}{os.sep}"

    def note(frame: Any, event: str, _argument: Any) -> None:
        code = frame.f_code
        # Comprehensions are calls for some versions of Python, and each item of a generator is one.
        is_function = not code.co_name.startswith("<") or code.co_name == "<lambda>"
        if event == "call" and is_function and code.co_filename.startswith(start):
            calls = threads.setdefault(threading.get_ident(), [])
            calls.append(Call(code.co_filename[len(start) :], code.co_name))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield threads
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def walk(what: str, work: Callable[[], object]) -> Walk:
    """Do something, and return what it called. What the emulator does is not part of it."""
    with _recorded() as threads:
        work()
    ours = [calls for calls in threads.values() if not any(call.file.startswith(EMULATOR) for call in calls)]
    way, *others = ours or [[]]
    for calls in others:
        # A reader goes into the acquisition where the caller begins to wait for it.
        place = next((index for index, call in enumerate(way) if call.function == "wait"), len(way))
        way[place:place] = calls
    return Walk(what, way)


def walks() -> list[Walk]:
    """The ways of a scope: once everything has been imported, and another token has been acquired."""
    with (
        CloudShellEmulator() as shell,
        shell.as_environment(),
        mock.patch.dict(os.environ, AZURE_POD_IDENTITY_AUTHORITY_HOST="http://127.0.0.1:9"),
    ):
        ways = []
        for kind in (CloudShellCredential, DefaultCloudShellCredential):
            credential = kind()
            credential.get_token(VAULT)
            get = partial(credential.get_token, SCOPE)
            ways += [walk(f"{kind.__name__}, {state}", get) for state in ("cold", "cached")]
        with CloudShellBroker() as broker:
            url, form = broker.environment["MSI_ENDPOINT"], {"resource": SCOPE.removesuffix("/.default")}
            headers = {"Metadata": "true"}

            def ask() -> None:
                with requests.Session() as session:
                    session.trust_env = False
                    session.post(url, form, headers=headers, timeout=10).raise_for_status()

            ask()
            ways.append(walk("the broker's answer, cached", ask))
        return ways
