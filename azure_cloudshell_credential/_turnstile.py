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


class Turnstile:
    """A lock with a queue of futures."""

    def __init__(self) -> None:
        self._mutex = Lock()
        self._queue: deque[Future[None]] = deque()
        self._occupied = False

    def queue_up(self) -> Future[None]:
        """Take a place in the queue; the future is done when it is one's turn."""
        place: Future[None] = Future()
        with self._mutex:
            if self._occupied:
                self._queue.append(place)
            else:
                self._occupied = True
                place.set_result(None)
        return place

    def leave(self, place: Future[None]) -> None:
        """Let the next one through, or give up a place whose turn has not come."""
        if place.cancel():
            return
        with self._mutex:
            while self._queue:
                following = self._queue.popleft()
                if following.set_running_or_notify_cancel():
                    following.set_result(None)
                    return
            self._occupied = False


_turnstiles: dict[int, Turnstile] = {}


def at_port(port: int) -> Turnstile:
    """The turnstile before an endpoint; on loopback the port tells endpoints apart."""
    return _turnstiles.setdefault(port, Turnstile())


# A forked child has none of the threads that stood in the queue, and nobody who would leave.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_turnstiles.clear)
