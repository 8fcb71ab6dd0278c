"""One request at a time: a process never has two requests at one endpoint at once.

Theory of operation. The endpoint has answered concurrent requests with each other's tokens (azure-cli#12297,
go-azure-helpers#51). So ``one_at_a_time`` puts a lock around a function that sends, whichever credentials, threads
and event loops the requests come from. The lock has a time limit, since a hook or a transport may never come back. A
thread that is inside a request must not wait for another one (a hook, a signal handler or a finalizer that asks for a
token): ``is_asking`` tells.

The lock is a plain one, taken with a timeout, and not a ``Condition``, in whose code an exception from a signal handler
could leave it taken.
"""

from __future__ import annotations

import os
import sys
from math import inf
from threading import Lock, local
from time import monotonic

from .acquisition import MIN_REQUEST_SECONDS, Send
from .protocol import NoReply, Reply

_GRACE = 1.0
"""Seconds past its deadline after which a request is taken for lost and the next one may be sent."""


class _Turn:
    """The right to send to an endpoint: held while a request is under way, and given up on when that is overdue."""

    __slots__ = ("lock", "overdue_from")

    def __init__(self) -> None:
        self.lock = Lock()
        self.overdue_from = inf

    def release(self) -> None:
        """Let the next one send."""
        self.overdue_from = inf
        self.lock.release()


_turns: dict[int, _Turn] = {}


def _take_turn(port: int, seconds: float) -> _Turn | None:
    """Wait for the endpoint to be free.

    :param seconds: how long to wait at most, and how long the request may take together with the waiting.
    :return: the turn, to be released; None if the endpoint was not free in that time.
    """
    deadline = monotonic() + seconds
    while True:
        turn = _turns.setdefault(port, _Turn())
        if turn.lock.acquire(timeout=max(0.0, min(deadline, turn.overdue_from) - monotonic())):
            if _turns.get(port) is turn:
                turn.overdue_from = deadline + _GRACE
                return turn
            turn.lock.release()
        elif monotonic() >= deadline:
            return None
        elif monotonic() >= turn.overdue_from and _turns.get(port) is turn:
            # The request is taken for lost, and its turn with it.
            _turns[port] = _Turn()


_this_thread = local()


def is_asking() -> bool:
    """Whether this thread is inside a request to an endpoint, or waiting to send one."""
    return getattr(_this_thread, "is_asking", False)


def one_at_a_time(port: int, send: Send) -> Send:
    """A function that sends as ``send`` does, when no other request of this process is at the endpoint.

    :param port: the endpoint's port, which on loopback tells endpoints apart.
    """

    def send_alone(resource: str, seconds: float) -> Reply | NoReply | None:
        if sys.is_finalizing():
            # The other threads are gone, the one that held the lock among them.
            return send(resource, seconds)
        deadline = monotonic() + seconds
        turn = None
        _this_thread.is_asking = True
        try:
            turn = _take_turn(port, seconds)
            remaining = deadline - monotonic()
            if turn is None or remaining < MIN_REQUEST_SECONDS:
                return None
            return send(resource, remaining)
        finally:
            if turn is not None:
                turn.release()
            _this_thread.is_asking = False

    return send_alone


# A forked child has none of the threads that would release a lock.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_turns.clear)
