"""Turns at an endpoint: a process never has two requests at one endpoint at once.

The endpoint has answered concurrent requests with each other's tokens (azure-cli#12297, go-azure-helpers#51), whichever
credentials, threads and event loops they came from. There is a lock around each request, not around the pauses between
retries, taken with a timeout, since a hook or a transport may never come back. A thread that is inside a request must
not wait for another one (a hook, a signal handler or a finalizer that asks for a token): ``is_in_turn`` tells.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

from .protocol import NoReply, Reply

_BUSY = NoReply("other requests took too long", "busy")

MIN_REQUEST_SECONDS = 0.001
"""With less than this left, a request is not worth starting; and requests refuses a timeout of 0."""

_GRACE = 1.0
"""Seconds past its deadline after which a request is taken for lost and the next one may be sent."""

_turns: dict[int, tuple[threading.Lock, float]] = {}
"""For each endpoint's port, the request that is there: a lock that it holds, and when it is taken for lost."""

_inside: set[int] = set()
"""The threads that are inside a request, or wait to send one."""


def is_in_turn() -> bool:
    """Whether this thread is inside a request to an endpoint, or waiting to send one."""
    return threading.get_ident() in _inside


def in_turn(port: int, seconds: float, send: Callable[[float], Reply | NoReply]) -> Reply | NoReply:
    """Send a request, when no other one of this process is at the endpoint.

    :param port: the endpoint's port, which on loopback tells endpoints apart.
    :param seconds: for waiting and sending together.
    :param send: sends it within the seconds that are left.
    :return: what ``send`` returns, or that the turn did not come in time.
    """
    if sys.is_finalizing():
        # The other threads are gone, one that has its turn among them.
        return send(seconds)
    deadline = time.monotonic() + seconds
    # A lock of its own: where gevent or eventlet is patched in later, one from before would stop all green threads.
    lock = threading.Lock()
    lock.acquire()
    mine = (lock, deadline + _GRACE)
    thread = threading.get_ident()
    _inside.add(thread)
    try:
        while (turn := _turns.setdefault(port, mine)) is not mine:
            if turn[0].acquire(timeout=max(0.0, min(deadline, turn[1]) - time.monotonic())):
                turn[0].release()
            elif time.monotonic() >= deadline:
                return _BUSY
            _end_turn(port, turn)
        remaining = deadline - time.monotonic()
        return send(remaining) if remaining >= MIN_REQUEST_SECONDS else _BUSY
    finally:
        _end_turn(port, mine)
        lock.release()
        _inside.discard(thread)


def _end_turn(port: int, turn: tuple[threading.Lock, float]) -> None:
    if _turns.get(port) is turn:
        _turns.pop(port, None)


def _after_fork() -> None:
    # The threads that ask are not in the child.
    _turns.clear()
    _inside.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
