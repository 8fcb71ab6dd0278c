"""Turns: what only one thread of this process may do at a time, such as asking an endpoint.

The endpoint has answered concurrent requests with each other's tokens (azure-cli#12297, go-azure-helpers#51), whichever
credentials, threads and event loops they came from. az fails where several of it are started at once. There is a lock
around each request, not around the pauses between retries, taken with a timeout, since a hook or a transport may never
come back. A thread that is inside a request must not wait for another one (a hook, a signal handler or a finalizer that
asks for a token): ``is_in_turn`` tells. A lock that the same thread may take again would let a finalizer in, and it
would wait there for what the thread beneath it holds.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Hashable

_GRACE = 1.0
"""Seconds past its deadline after which a turn is taken for lost and the next one may begin."""

_turns: dict[Hashable, tuple[threading.Lock, float]] = {}
"""For each place, the turn that is there: a lock that it holds, and when it is taken for lost."""

_inside: set[int] = set()
"""The threads that have a turn, or wait for one."""


def is_in_turn() -> bool:
    """Whether this thread is inside a request, or waiting to send one."""
    return threading.get_ident() in _inside


class Turn:
    """The turn of one thread at a place, for a ``with`` statement.

    :param place: where there is room for one. For an endpoint its port, which on loopback tells endpoints apart:
        one that hangs holds up nobody at another.
    :param seconds: for waiting and for what is done then.
    """

    def __init__(self, place: Hashable, seconds: float) -> None:
        self._place = place
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        # A lock of its own: where gevent or eventlet is patched in later, one from before would stop all green threads.
        self._lock = threading.Lock()
        self._turn = (self._lock, self._deadline + _GRACE)

    def __enter__(self) -> float:
        """Wait for the turn.

        :return: the seconds that are left, 0 if the turn did not come in time.
        """
        if sys.is_finalizing():
            # The other threads are gone, one that has its turn among them.
            return self._seconds
        self._lock.acquire()
        _inside.add(threading.get_ident())
        try:
            while (turn := _turns.setdefault(self._place, self._turn)) is not self._turn:
                if turn[0].acquire(timeout=max(0.0, min(self._deadline, turn[1]) - time.monotonic())):
                    turn[0].release()
                elif time.monotonic() >= self._deadline:
                    return 0.0
                self._end(turn)
            return max(0.0, self._deadline - time.monotonic())
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *args: object) -> None:
        self._end(self._turn)
        if self._lock.locked():
            self._lock.release()
        _inside.discard(threading.get_ident())

    def _end(self, turn: tuple[threading.Lock, float]) -> None:
        if _turns.get(self._place) is turn:
            _turns.pop(self._place, None)


def _after_fork() -> None:
    # The threads that ask are not in the child.
    _turns.clear()
    _inside.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
