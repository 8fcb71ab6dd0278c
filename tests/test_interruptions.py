"""Signal handlers and finalizers: they run between any two bytecodes, raise there, or ask for a token themselves.

The walks go through one point after another of what runs, until there is none left, and say which functions they have
been in: a walk that ended before it came to what it is for fails.
"""

from __future__ import annotations

import itertools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential._endpoint.failures import Failure
from azure_cloudshell_credential._endpoint.scopes import TokenRequest
from azure_cloudshell_credential._endpoint.token import Token
from azure_cloudshell_credential._tokens import in_flight
from azure_cloudshell_credential._tokens.cache import CachedToken, TokenCache
from azure_cloudshell_credential._tokens.in_flight import InFlight
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .conftest import ARM, Async, Sync

_TOKENS = Path(in_flight.__file__).parent
_BUDGET = 5
"""Seconds after which a caller who waits for nobody gives up: no test waits so long."""


class Interrupted(BaseException):
    """What a signal handler raises, as Ctrl-C does."""


def interrupt() -> None:
    raise Interrupted


class Point:
    """One point of what runs: a trace function that does something there, once.

    :param number: how many come before it.
    :param unit: "line" or "opcode".
    :param folder: only the files below it count.
    :param do: what is done there.
    :param counts: whether those that are passed count.
    """

    def __init__(
        self,
        number: int,
        unit: str,
        folder: Path,
        do: Callable[[], object],
        counts: Callable[[], bool] = lambda: True,
    ) -> None:
        self._left = number
        self._unit = unit
        self._folder = f"{folder}/"
        self._do = do
        self._counts = counts
        self.function: str | None = None
        """The function that it is in; None until it is reached."""

    def trace(self, frame: Any, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(self._folder):
            return None
        frame.f_trace_opcodes = self._unit == "opcode"
        if event == self._unit and self.function is None and self._counts():
            self._left -= 1
            if self._left < 0:
                self.function = frame.f_code.co_name
                sys.settrace(None)
                self._do()
        return self.trace


def walk(pass_through: Callable[[int], Point]) -> set[str]:
    """Go from point to point until there is none any more, and return the functions that they are in."""
    reached: set[str] = set()
    for number in itertools.count():
        point = pass_through(number)
        if point.function is None:
            return reached
        reached.add(point.function)
    raise AssertionError


def in_a_thread(work: Callable[[], object], point: Point) -> None:
    """Do the work in a thread of its own: raising in a trace function can leave a thread's state behind."""

    def run() -> None:
        sys.settrace(point.trace)
        try:
            work()
        except Interrupted:
            pass
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a caller is about to wait. What waits for this ends after that, so that each way has the same points."""
    event = threading.Event()
    seconds_to_wait = InFlight.seconds_to_wait

    def about_to_wait(self: InFlight) -> float:
        event.set()
        return seconds_to_wait(self)

    monkeypatch.setattr(InFlight, "seconds_to_wait", about_to_wait)
    return event


@pytest.mark.parametrize("kind", [Sync, Async], ids=lambda kind: kind.name)
def test_interrupted_at_any_line_a_caller_leaves_the_next_one_its_token(
    kind: Any, shell: CloudShellEmulator, waited: threading.Event
) -> None:
    def pass_through(number: int) -> Point:
        waited.clear()
        credential = kind(endpoint=shell.endpoint, timeout=_BUDGET, raw_request_hook=lambda _: waited.wait(_BUDGET))
        point = Point(number, "line", _TOKENS.parent, interrupt)
        in_a_thread(lambda: credential.get_token(ARM), point)
        assert credential.get_token(ARM).token, point.function
        return point

    assert walk(pass_through) >= {"get_token", "begin", "start", "wait", "result"}


class Tokens:
    """A cache, and an acquisition during which a finalizer asks for the token that is being acquired."""

    def __init__(self, waited: threading.Event) -> None:
        waited.clear()
        self.cache = TokenCache(_BUDGET)
        self.token = Token("x", int(time.time()) + 3600)
        self._waited = waited
        self._is_acquiring = False
        self.told: list[Any] = []
        """What the finalizers got, on the threads that acquire."""

    def get(self, resource: str) -> Any:
        found = self.cache.begin(resource, TokenRequest((resource,), {}), lambda: self._acquire(resource))
        return found.wait() if isinstance(found, InFlight) else found

    def is_acquiring(self) -> bool:
        """Whether an acquisition knows its thread, or has."""
        self._is_acquiring |= any(each.runner is not None for each in self.cache.in_flight.values())
        return self._is_acquiring

    def _acquire(self, resource: str) -> Token:
        self._waited.wait(_BUDGET)
        self.told.append(self.get(resource))
        return self.token


def test_interrupted_between_any_two_bytecodes_a_caller_leaves_the_next_one_its_token(waited: threading.Event) -> None:
    def pass_through(number: int) -> Point:
        tokens = Tokens(waited)
        point = Point(number, "opcode", _TOKENS, interrupt)
        in_a_thread(lambda: tokens.get("r"), point)
        assert isinstance(tokens.get("r"), CachedToken), point.function
        return point

    assert walk(pass_through) >= {"begin", "start", "wait", "result"}


def is_told_so(outcome: Any) -> bool:
    """Whether it is the failure that one gets who asks inside a request."""
    return isinstance(outcome, Failure) and "inside another token request on the same thread" in outcome.what


class Uploads:
    """As an fsspec file does: closing it uploads the rest, and the garbage collector may be what closes it."""

    def __init__(self, upload: Callable[[], object]) -> None:
        self._upload = upload

    def __del__(self) -> None:
        self._upload()


@pytest.mark.parametrize("asked", ["r", "another"])
def test_a_finalizer_gets_its_token_between_any_two_bytecodes_of_a_caller(asked: str, waited: threading.Event) -> None:
    def pass_through(number: int) -> Point:
        tokens = Tokens(waited)
        outcomes: list[Any] = []
        garbage = [Uploads(lambda: outcomes.append(tokens.get(asked)))]
        point = Point(number, "opcode", _TOKENS, garbage.clear)
        in_a_thread(lambda: outcomes.append(tokens.get("r")), point)
        garbage.clear()
        assert [type(outcome) for outcome in outcomes] == [CachedToken, CachedToken], point.function
        assert all(map(is_told_so, tokens.told)), point.function
        return point

    assert walk(pass_through) >= {"begin", "start", "wait", "result"}


def test_a_finalizer_on_the_thread_that_acquires_waits_for_nobody(waited: threading.Event) -> None:
    def pass_through(number: int) -> Point:
        tokens = Tokens(waited)
        outcomes: list[Any] = []
        garbage = [Uploads(lambda: outcomes.append(tokens.get("r")))]
        point = Point(number, "opcode", _TOKENS, garbage.clear, tokens.is_acquiring)
        threading.settrace(point.trace)
        try:
            assert isinstance(tokens.get("r"), CachedToken), point.function
        finally:
            threading.settrace(None)
        for thread in threading.enumerate():
            if thread.name == in_flight.THREAD_NAME:
                thread.join()
        garbage.clear()
        assert isinstance(outcomes[0], CachedToken) or is_told_so(outcomes[0]), point.function
        return point

    assert walk(pass_through) >= {"_run", "_finish", "keep", "end"}


@pytest.fixture
def alarm() -> Iterator[Callable[[float, Callable[[], None]], None]]:
    """Calls back from a signal handler on the main thread, so many seconds from now."""
    before = signal.getsignal(signal.SIGALRM)

    def arm(seconds: float, callback: Callable[[], None]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: callback())
        signal.setitimer(signal.ITIMER_REAL, seconds)

    yield arm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_interrupted_caller_leaves_the_next_one_its_request(shell: CloudShellEmulator, alarm: Any) -> None:
    shell.latency = 0.3
    credential = CloudShellCredential(endpoint=shell.endpoint)
    alarm(0.1, interrupt)
    with pytest.raises(Interrupted):
        credential.get_token(ARM)
    assert credential.get_token(ARM).token
    assert len(shell.requests) == 1


def test_a_signal_handler_that_asks_for_the_token_being_acquired_gets_it(shell: CloudShellEmulator, alarm: Any) -> None:
    shell.latency = 0.2
    credential = CloudShellCredential(endpoint=shell.endpoint)
    tokens: list[Any] = []
    alarm(0.1, lambda: tokens.append(credential.get_token(ARM)))
    tokens.append(credential.get_token(ARM))
    assert len(tokens) == 2
    assert len(set(tokens)) == 1
    assert len(shell.requests) == 1
