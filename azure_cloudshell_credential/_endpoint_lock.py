"""One question at a time: a process never has two requests at one endpoint at once.

Theory of operation. The endpoint has answered concurrent requests with each other's tokens (azure-cli#12297,
go-azure-helpers#51). So :func:`one_at_a_time` puts a lock around a function that sends, whichever credentials, threads
and event loops the requests come from. The lock has a time limit, since a hook or a transport may never come back. A
thread that is inside a request must not wait for another one (a hook, a signal handler or a finalizer that asks for a
token): :func:`is_asking` tells.
"""

from __future__ import annotations

import os
import sys
from threading import Condition, local
from time import monotonic

from ._acquisition import MIN_REQUEST_SECONDS, Send
from ._protocol import NoReply, Reply

_GRACE = 1.0
"""Seconds past its deadline after which a request is taken for lost and the next one may be sent."""


class _EndpointLock:
    """Lets one request at a time through to an endpoint, and gives up on one that is overdue."""

    def __init__(self) -> None:
        # Its lock is re-entrant: a finalizer may run while it is held, and whatever it asks for must not hang.
        self._condition = Condition()
        self._holder: object = None
        self._overdue_from = 0.0

    def acquire(self, seconds: float) -> object | None:
        """Wait for the endpoint to be free.

        :param seconds: how long to wait at most, and how long the request may take together with the waiting.
        :return: what to release it with; None if it was not free in that time.
        """
        ticket = object()
        deadline = monotonic() + seconds
        with self._condition:
            while self._holder is not None and (now := monotonic()) < self._overdue_from:
                if now >= deadline:
                    return None
                self._condition.wait(min(deadline, self._overdue_from) - now)
            self._holder = ticket
            self._overdue_from = deadline + _GRACE
        return ticket

    def release(self, ticket: object) -> None:
        """Let the next one through."""
        with self._condition:
            if self._holder is ticket:
                self._holder = None
                self._condition.notify()


_locks: dict[int, _EndpointLock] = {}
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
            # The other threads are gone, and with them whoever would release the lock.
            return send(resource, seconds)
        deadline = monotonic() + seconds
        lock = _locks.setdefault(port, _EndpointLock())
        ticket = None
        _this_thread.is_asking = True
        try:
            ticket = lock.acquire(seconds)
            remaining = deadline - monotonic()
            if ticket is None or remaining < MIN_REQUEST_SECONDS:
                return None
            return send(resource, remaining)
        finally:
            if ticket is not None:
                lock.release(ticket)
            _this_thread.is_asking = False

    return send_alone


# A forked child has none of the threads that would release a lock.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_locks.clear)
