"""How a token is acquired: ask, judge the answer, pause, ask again, within one budget.

Theory of operation. An acquisition is one loop over a function that sends. The function belongs to the caller: the
credential sends through an azure-core pipeline, the command line over the bare exchange. What the loop adds is the
decision whether and when to ask again, and it is made here and nowhere else. The budget covers everything, the pauses
included, so that it is one number that a caller waits at most.

An answer ends the loop unless asking again may help. Transient errors are asked again ``retry_total`` times, with
pauses that double. The portal's timeout, which users meet most, is asked again as long as the budget lasts: a script
in the field needed up to six attempts with pauses of 5 and 10 seconds. A token for another resource is a mix-up inside
the endpoint and is asked for again once, at once.

One request at a time: the endpoint has answered concurrent requests with each other's tokens (azure-cli#12297,
go-azure-helpers#51), so a process never has two requests at one endpoint, whichever credentials, threads and event
loops they come from. There is a lock around each request, not around the pauses, taken with a timeout, since a hook or
a transport may never come back. A thread that is inside a request must not wait for another one (a hook, a signal
handler or a finalizer that asks for a token): ``is_asking`` tells.

Standard library only: this is on the path of the ``token`` command.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable

from . import clock, failures, protocol
from .failures import Failure
from .protocol import NoReply, Reply, Token

Send = Callable[[str, float], "Reply | NoReply"]
"""Sends the request for a resource within so many seconds."""

MAX_TIMEOUT = 86400.0
"""Seconds, a day: a longer budget counts as this one, which every platform's timers can take."""

_LONGEST_PAUSE = 10.0
"""Seconds: a browser tab may become active again at any moment."""

_BUSY = NoReply("other requests took too long", "busy")

_MIN_REQUEST_SECONDS = 0.001
"""With less than this left, a request is not worth starting; and requests refuses a timeout of 0."""

_GRACE = 1.0
"""Seconds past its deadline after which a request is taken for lost and the next one may be sent."""


class RetryPolicy:
    """How long and how often to ask.

    :param timeout: seconds for the whole acquisition, retries included. How long the endpoint itself waits for the
        portal is not known.
    :param retry_total: maximum retries after a transient failure; None means 3, and after a portal timeout as many as
        the budget allows.
    :param retry_backoff_factor: seconds before the first retry, doubled for each one after it, up to 10.
    """

    def __init__(self, timeout: float = 30, retry_total: int | None = None, retry_backoff_factor: float = 0.4) -> None:
        self.timeout = min(timeout, MAX_TIMEOUT)
        self.retry_total = retry_total
        self.retry_backoff_factor = retry_backoff_factor

    def pause_before_retry(self, retry: int, failure: Failure) -> float | None:
        """The seconds to wait before asking again, None not to.

        :param retry: how often it has been asked again already.
        """
        limit = 3 if self.retry_total is None else self.retry_total
        is_mixed_up = failure.kind == "wrong_resource"
        is_unlimited = failure.kind == "portal" and self.retry_total is None and self.retry_backoff_factor > 0
        if failure.retry_after is None or (retry >= (min(1, limit) if is_mixed_up else limit) and not is_unlimited):
            return None
        if is_mixed_up:
            # The next answer is right or will not be: waiting changes nothing.
            return 0.0
        pause = min(self.retry_backoff_factor * 2.0 ** min(retry, 16), _LONGEST_PAUSE)
        # Without jitter, scripts that the same hiccup stopped would all ask again at the same moment.
        return max(failure.retry_after, pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret


def acquire(
    resource: str, send: Send, policy: RetryPolicy, port: int, on_retry: Callable[[float, Failure], None] | None = None
) -> Token | Failure:
    """Ask for a token as often as makes sense within the budget.

    :param resource: what to ask for.
    :param send: sends one request.
    :param policy: the budget.
    :param port: the endpoint's port, which on loopback tells endpoints apart.
    :param on_retry: told of each pause before it is taken: its seconds, and the failure.
    """
    start = clock.current.monotonic()
    deadline = start + policy.timeout
    retries = 0
    outcome: Token | Failure | None = None
    while (remaining := deadline - clock.current.monotonic()) >= _MIN_REQUEST_SECONDS:
        answer = _send_alone(resource, send, remaining, port)
        if isinstance(answer, Reply):
            outcome = protocol.read_reply(resource, answer, clock.current.time())
        else:
            outcome = answer.as_failure(resource, policy.timeout)
        if isinstance(outcome, Token):
            return outcome
        pause = policy.pause_before_retry(retries, outcome)
        now = clock.current.monotonic()
        if pause is None or now + pause >= deadline:
            if retries:
                took = failures.count(now - start, "second") if now - start >= 1 else "under a second"
                outcome.what += f" (Asked {retries + 1} times in {took}.)"
            return outcome
        retries += 1
        if pause:
            if on_retry is not None:
                on_retry(pause, outcome)
            clock.current.sleep(pause)
    return outcome or failures.no_answer(resource, policy.timeout)


_turns: dict[int, tuple[threading.Lock, float]] = {}
"""For each endpoint's port, the request that is there: a lock that it holds, and when it is taken for lost."""

_asking: set[int] = set()


def is_asking() -> bool:
    """Whether this thread is inside a request to an endpoint, or waiting to send one."""
    return threading.get_ident() in _asking


def _send_alone(resource: str, send: Send, seconds: float, port: int) -> Reply | NoReply:
    """Send, when no other request of this process is at the endpoint."""
    if sys.is_finalizing():
        # The other threads are gone, one that has its turn among them.
        return send(resource, seconds)
    deadline = time.monotonic() + seconds
    # A lock of its own: where gevent or eventlet is patched in later, one from before would stop all green threads.
    lock = threading.Lock()
    lock.acquire()
    mine = (lock, deadline + _GRACE)
    thread = threading.get_ident()
    _asking.add(thread)
    try:
        while (turn := _turns.setdefault(port, mine)) is not mine:
            if turn[0].acquire(timeout=max(0.0, min(deadline, turn[1]) - time.monotonic())):
                turn[0].release()
            elif time.monotonic() >= deadline:
                return _BUSY
            _end_turn(port, turn)
        remaining = deadline - time.monotonic()
        return send(resource, remaining) if remaining >= _MIN_REQUEST_SECONDS else _BUSY
    finally:
        _end_turn(port, mine)
        lock.release()
        _asking.discard(thread)


def _end_turn(port: int, turn: tuple[threading.Lock, float]) -> None:
    if _turns.get(port) is turn:
        _turns.pop(port, None)


def _after_fork() -> None:
    # The threads that ask are not in the child.
    _turns.clear()
    _asking.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
