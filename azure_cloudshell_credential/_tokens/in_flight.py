"""An acquisition in flight: one daemon thread acquires a token, and every caller waits for it.

Theory of operation. A caller never acquires a token on its own thread or event loop. It waits for the outcome, and may
go away at any moment: a cancelled task, a timeout, Ctrl-C, a closed loop. The acquisition does not notice. Executors do
not work here: the interpreter, and ``asyncio.run``, wait for their threads on the way out.

Callers share a set, to which each adds how to wake it, and two attributes. There is no lock that a finalizer or a
signal handler, which run between any two bytecodes of a thread that may be in here, could wait for itself on. The
primitives of ``threading`` are looked up when they are used: gevent and eventlet may have replaced them since the
import.

Where no thread can be started (at interpreter shutdown from Python 3.12 on, at the thread limit), the caller acquires
the token itself.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from time import monotonic
from types import TracebackType
from typing import Any

_GRACE = 0.1
"""Seconds past its budget after which an acquisition is overdue."""

_START_SECONDS = 30.0
"""Seconds within which the thread has to run, unless the budget is smaller."""

THREAD_NAME = "azure-cloudshell-credential"
"""That of the threads in which acquisitions run."""


class InFlight:
    """One acquisition in flight.

    :param acquire: acquires the token.
    :param budget: the seconds that ``acquire`` may take.
    """

    # Kept where freezegun and its like do not put theirs: waiting takes real time.
    _now = staticmethod(monotonic)

    def __init__(self, acquire: Callable[[], Any], budget: float) -> None:
        # Taken out in one operation: it is called once, however often it is started.
        self._acquire = [acquire]
        # The thread of the caller that makes it, until it has started it.
        self._starter: int | None = threading.get_ident()
        self._budget = budget
        self._deadline = self._now() + min(budget, _START_SECONDS)
        self._context = copy_context()
        self._outcome: Any = None
        self._traceback: TracebackType | None = None
        self.is_done = False
        self.wakes: set[Callable[[], object]] = set()
        """Each is called once, on any thread, when it has ended. Callers add and discard theirs."""
        self.runner: int | None = None
        """The thread that acquires and ends it, while it does."""
        self.is_acquiring = False
        """Whether ``acquire`` has been called and has not come back."""

    def _finish(self, outcome: Any) -> Any:
        """What the waiters get for an outcome, or for the exception that ended ``acquire``."""
        return outcome

    def _overdue(self) -> Any:
        """The outcome where the budget has been exceeded; ``runner`` tells whether ``acquire`` has been called."""
        return TimeoutError(f"It has taken longer than {self._budget:g} seconds.")

    def start(self) -> None:
        """Acquire in a daemon thread, in a copy of the caller's context; on this one where none can be started."""
        if not self._acquire:
            return
        try:
            if sys.is_finalizing():
                # Up to Python 3.11, starting one would wait for ever.
                raise RuntimeError("can't create new thread at interpreter shutdown")
            threading.Thread(target=self._run, name=THREAD_NAME, daemon=True).start()
        except RuntimeError:
            self._run()
        self._starter = None

    def _run(self) -> None:
        try:
            acquire = self._acquire.pop()
        except IndexError:
            return
        self.runner = threading.get_ident()
        self._deadline = self._now() + self._budget
        self.is_acquiring = True
        try:
            # One call more: freezegun leaves the real time to what threading has called fewer than six calls ago.
            outcome = self._context.run(lambda: acquire())  # noqa: PLW0108
        except BaseException as error:
            # It goes to those who wait.
            outcome = error
        self.is_acquiring = False
        self.end(outcome)
        self.runner = None

    def end(self, outcome: Any) -> None:
        """End it with an outcome or an exception, unless it has ended."""
        try:
            outcome = self._finish(outcome)
        except Exception as error:
            # An error in the bookkeeping ends it too.
            outcome = error
        if not self.is_done:
            self._outcome, self._traceback = outcome, getattr(outcome, "__traceback__", None)
            self.is_done = True
        # A caller that adds its own from now on sees that it has ended.
        with suppress(KeyError):
            while True:
                self.wakes.pop()()

    def seconds_to_wait(self) -> float:
        """How long to wait for it before calling this again. Ends it if it is overdue."""
        remaining = self._deadline + _GRACE - self._now()
        if remaining <= 0:
            self.end(self._overdue())
        return max(0.0, remaining)

    def wait(self) -> Any:
        """Wait on this thread until it has ended, and return or raise the outcome."""
        if self._starter == threading.get_ident():
            # This is a finalizer or a signal handler. The caller beneath it was about to start it, and would only
            # come to that when this has got its token.
            self.start()
        gate = threading.Lock()
        gate.acquire()
        self.wakes.add(gate.release)
        try:
            while not self.is_done:
                gate.acquire(timeout=self.seconds_to_wait())
        finally:
            self.wakes.discard(gate.release)
        return self.result()

    def result(self) -> Any:
        """The outcome. An exception is raised, the same one at every waiter, without the frames of those before it."""
        if isinstance(self._outcome, BaseException):
            raise self._outcome.with_traceback(self._traceback)
        return self._outcome
