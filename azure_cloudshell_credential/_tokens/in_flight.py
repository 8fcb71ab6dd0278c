"""An acquisition under way: the daemon thread that runs it, and the future that every caller waits for.

Theory of operation. A caller never acquires a token on its own thread or event loop. It waits for a future, and may go
away at any moment: a cancelled task, a timeout, Ctrl-C, a closed loop, a signal handler that raises. Nothing is lost.
The one thing a caller does is start the thread, and it can be interrupted there too. Therefore:

- Starting is repeatable. A thread begins by claiming the acquisition, which only one thread can. A caller whose
  acquisition is still unclaimed after a moment starts another thread.
- Starting is one operation on the caller's thread. ``Thread.start`` is many: it waits for the new thread under a lock
  that the new thread takes, and interrupted there, it would leave the new one waiting for ever. So the thread is a bare
  one, which gives itself what ``threading`` would: a name, and the hooks of debuggers and of coverage.

Waiting is repeatable as well. ``seconds_to_wait`` makes sure that the acquisition runs, and that it ends:
once it is overdue (a hook or a transport that never returns) it fails for every caller. Callers differ only in how they
wait that long.

Where no thread can be started, the caller runs the acquisition: at interpreter shutdown, at the thread limit, and in a
signal handler or finalizer that runs inside ``threading`` itself, whose lock the new thread would wait for. Executors
do not work here: the interpreter, and ``asyncio.run``, wait for their threads on the way out.

``concurrent.futures.Future`` does not work either. Callers take its lock, and an exception that a signal handler raises
between the taking and the ``with`` block leaves it taken for ever. Here callers share a list, to which each adds how to
wake it, and two attributes.
"""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Lock, get_ident
from time import monotonic
from typing import Any

_START_GRACE = 0.05
"""Seconds after which an acquisition that no thread has claimed is started again.

Each further time after twice as many, so that threads do not pile up where none gets to run.
"""

_GRACE = 0.1
"""Seconds past its budget after which an acquisition is taken for lost."""

_NO_BUDGET_CHECK = 60.0


def _is_inside_threading() -> bool:
    """Whether this thread holds the lock that every new thread takes first.

    So does a finalizer that the garbage collector runs inside ``Thread.start``, inside ``threading.enumerate`` or after
    a fork. The new thread would wait for the lock, and the finalizer for the thread.
    """
    is_owned = getattr(getattr(threading, "_active_limbo_lock", None), "_is_owned", None)
    return is_owned is not None and bool(is_owned())


class InFlight:
    """One acquisition under way.

    :param acquire: acquires, and returns what came of it.
    :param finish: told of what came of it, or of the exception that ended it; returns what callers are to have.
    :param budget: the seconds it may take; None: as long as it takes.
    :param overdue: what came of it if it takes longer.
    """

    # Kept where freezegun and its like do not put theirs: what waits for real is measured in real time.
    _now = staticmethod(monotonic)

    __slots__ = (
        "_acquire",
        "_claim",
        "_context",
        "_deadline",
        "_finish",
        "_is_done",
        "_outcome",
        "_overdue",
        "_start_grace",
        "_started",
        "_wake",
        "budget",
        "runner",
    )

    def __init__(
        self,
        acquire: Callable[[], Any],
        finish: Callable[[InFlight, Any], Any],
        budget: float | None,
        overdue: Callable[[], Any],
    ) -> None:
        self._acquire = acquire
        self._finish = finish
        self._overdue = overdue
        self.budget = budget
        self.runner: int | None = None
        self._context = copy_context()
        self._claim = Lock()
        self._outcome: Any = None
        self._is_done = False
        self._wake: list[Callable[[], None]] = []
        self._started = self._now()
        self._start_grace = _START_GRACE
        self._deadline: float | None = None

    def start(self) -> None:
        """Run it in a daemon thread, in a copy of the caller's context; or here, where no thread can be started."""
        self._started = self._now()
        if not sys.is_finalizing() and not _is_inside_threading():
            # Looked up now: gevent and eventlet may have replaced it. RuntimeError: no thread can be started.
            with suppress(RuntimeError):
                _thread.start_new_thread(self._run_in_thread, ())
                return
        self._run(is_callers=True)

    def _run_in_thread(self) -> None:
        """What ``threading.Thread`` does around its target, as far as somebody looks at this thread."""
        if (trace := threading.gettrace()) is not None:
            sys.settrace(trace)
        if (profile := threading.getprofile()) is not None:
            sys.setprofile(profile)
        threading.current_thread().name = "azure-cloudshell-credential"
        try:
            self._run()
        finally:
            # Up to Python 3.12, threading.enumerate() would go on listing it.
            getattr(threading, "_active", {}).pop(get_ident(), None)

    def seconds_to_wait(self) -> float:
        """How long to wait for it before calling this again. Sees to it that it runs, and that it ends."""
        if not self._claim.locked():
            if self._now() - self._started >= self._start_grace:
                self._start_again()
            return self._start_grace
        if self.budget is None:
            return _NO_BUDGET_CHECK
        # The thread that claimed it may have been interrupted before it set the deadline.
        deadline = self._started + self.budget if self._deadline is None else self._deadline
        remaining = deadline + _GRACE - self._now()
        if remaining <= 0:
            self.end(self._overdue())
        return max(0.0, remaining)

    def _start_again(self) -> None:
        self._start_grace *= 2
        if self.budget is not None and self._start_grace > max(self.budget, 1.0):
            self.end(self._overdue())
        else:
            self.start()

    def is_done(self) -> bool:
        """Whether it has ended."""
        return self._is_done

    def wait(self) -> Any:
        """Wait on this thread until it has ended, and return what came of it as ``outcome`` does."""
        while not self._is_done:
            gate = Lock()
            gate.acquire()
            self.subscribe(gate.release)
            if not self._is_done:
                gate.acquire(timeout=self.seconds_to_wait())
        return self.outcome()

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call back once, on any thread, when it has ended or has to be started again. Not if it ended before."""
        self._wake.append(wake)

    def outcome(self) -> Any:
        """What came of it; raises what it was ended by, if that was an exception."""
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def end(self, outcome: Any) -> None:
        """End it with an outcome or an exception, unless it has ended."""
        if self._is_done:
            return
        # Two threads may get here, when it was overdue and came back all the same: either outcome will do, and a thread
        # that is interrupted here leaves it to the next.
        self._outcome = self._finish(self, outcome)
        self._is_done = True
        # A caller that subscribes from now on sees that it has ended.
        self._wake_all()

    def _wake_all(self) -> None:
        with suppress(IndexError):
            while True:
                self._wake.pop()()

    def _run(self, *, is_callers: bool = False) -> None:
        """Acquire, unless another thread does.

        :param is_callers: whether this is the thread of a caller. What a signal handler raises there is for that caller
            alone, and cannot be told from what a hook raises; the other callers start the acquisition again.
        """
        if not self._claim.acquire(blocking=False):
            return
        is_over = False
        outcome: Any = None
        try:
            self.runner = get_ident()
            if self.budget is not None:
                self._deadline = self._now() + self.budget
            outcome = self._acquired(is_callers=is_callers)
            is_over = True
        finally:
            self.runner = None
            if is_over:
                self.end(outcome)
            else:
                self._claim.release()
                self._wake_all()

    def _acquired(self, *, is_callers: bool) -> Any:
        try:
            return self._context.run(self._acquire)
        except BaseException as error:
            if is_callers and not isinstance(error, (StopIteration, StopAsyncIteration)):
                raise
            return error
