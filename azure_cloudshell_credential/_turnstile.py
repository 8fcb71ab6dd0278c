"""One question at a time: lets a single request through to an endpoint, whoever waits.

The endpoint has answered concurrent requests with each other's tokens (azure-cli#12297, go-azure-helpers#51), so a
process never has two of them under way, whichever credential, thread or event loop they come from. A place in the
queue is a future, which threads and event loops can both wait for.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future
from threading import Lock
from time import monotonic

GRACE = 1.0
"""Seconds past its time after which whoever is through counts as gone: an event loop may stop and never run again."""


class Turnstile:
    """A lock with a queue of futures, and with a time limit."""

    def __init__(self) -> None:
        self._mutex = Lock()
        self._queue: deque[tuple[Future[None], float]] = deque()
        self._through: Future[None] | None = None
        self._overdue_from = 0.0

    def queue_up(self, seconds: float) -> Future[None]:
        """Take a place in the queue; the future is done when it is one's turn.

        :param seconds: how long one will need at most, once through.
        """
        place: Future[None] = Future()
        with self._mutex:
            # Those who queue behind somebody gone are let through when this one leaves.
            if self._through is None or monotonic() >= self._overdue_from:
                self._let_through(place, seconds)
            else:
                self._queue.append((place, seconds))
        return place

    def leave(self, place: Future[None]) -> None:
        """Let the next one through, or give up a place whose turn has not come."""
        if place.cancel():
            return
        with self._mutex:
            if place is not self._through:
                return
            self._through = None
            while self._queue:
                following, seconds = self._queue.popleft()
                if following.set_running_or_notify_cancel():
                    self._let_through(following, seconds)
                    return

    def _let_through(self, place: Future[None], seconds: float) -> None:
        self._through = place
        self._overdue_from = monotonic() + seconds + GRACE
        place.set_result(None)


_turnstiles: dict[int, Turnstile] = {}


def at_port(port: int) -> Turnstile:
    """The turnstile before an endpoint; on loopback the port tells endpoints apart."""
    return _turnstiles.setdefault(port, Turnstile())


# A forked child has none of the threads that stood in the queue, and nobody who would leave.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_turnstiles.clear)
