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

from . import failures, protocol
from .failures import Failure
from .protocol import NoReply, Reply, Token

Send = Callable[[str, float], "Reply | NoReply"]
"""Sends the request for a resource within so many seconds."""

DEFAULT_TIMEOUT = 30.0
"""Seconds for one acquisition, retries included. How long the endpoint itself waits for the portal is not known."""

MAX_TIMEOUT = 86400.0
"""Seconds, a day: a longer budget counts as this one, which every platform's timers can take."""

DEFAULT_RETRY_TOTAL = 3
DEFAULT_BACKOFF_FACTOR = 0.4

_PORTAL_PAUSES = (0.4, 1.0, 2.0, 5.0, 10.0)
"""Seconds before the next request after the portal's timeout; the last one repeats."""

_JITTER = 0.2
_MAX_DOUBLINGS = 16
_MIN_REQUEST_SECONDS = 0.001
"""With less than this left, a request is not worth starting; and requests refuses a timeout of 0."""

_GRACE = 1.0
"""Seconds past its deadline after which a request is taken for lost and the next one may be sent."""


class Clock:
    """The time, as acquisitions and caches see it. Looked up anew each time: gevent and eventlet may replace it."""

    def time(self) -> float:
        """Unix time."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that no change of the clock affects."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


clock = Clock()
"""Replaced by tests, so that nobody waits between retries."""


class RetryPolicy:
    """How long and how often to ask.

    :param timeout: seconds for the whole acquisition.
    :param retry_total: maximum retries after a transient failure; None means 3, and after a portal timeout as many as
        the budget allows.
    :param backoff_factor: seconds before the first retry, doubled for each one after it.
    """

    def __init__(
        self,
        timeout: float = DEFAULT_TIMEOUT,
        retry_total: int | None = None,
        backoff_factor: float = DEFAULT_BACKOFF_FACTOR,
    ) -> None:
        self.timeout = min(timeout, MAX_TIMEOUT)
        self.retry_total = retry_total
        self.backoff_factor = backoff_factor

    def pause_before_retry(self, retry: int, failure: Failure) -> float | None:
        """The seconds to wait before asking again, None not to.

        :param retry: how often it has been asked again already.
        """
        if failure.retry_after is None:
            return None
        limit = DEFAULT_RETRY_TOTAL if self.retry_total is None else self.retry_total
        if failure.kind == "wrong_resource":
            # The next answer is right or will not be: waiting changes nothing.
            return 0.0 if retry < min(1, limit) else None
        if failure.kind == "portal":
            pause = _PORTAL_PAUSES[min(retry, len(_PORTAL_PAUSES) - 1)] * self.backoff_factor / DEFAULT_BACKOFF_FACTOR
            is_unlimited = self.retry_total is None and pause > 0
        else:
            pause = self.backoff_factor * 2 ** min(retry, _MAX_DOUBLINGS)
            is_unlimited = False
        if retry >= limit and not is_unlimited:
            return None
        # Without jitter, scripts that the same hiccup stopped would all ask again at the same moment.
        return max(failure.retry_after, pause * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - no secret


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
    start = clock.monotonic()
    deadline = start + policy.timeout
    attempts = 0
    while True:
        remaining = deadline - clock.monotonic()
        if remaining < _MIN_REQUEST_SECONDS:
            return failures.no_answer(resource, policy.timeout)
        outcome = _judge(resource, _send_alone(resource, send, remaining, port), policy)
        attempts += 1
        if isinstance(outcome, Token):
            return outcome
        pause = policy.pause_before_retry(attempts - 1, outcome)
        if pause is None or clock.monotonic() + pause >= deadline:
            if attempts > 1:
                outcome.what += f" (Asked {attempts} times in {failures.elapsed(clock.monotonic() - start)}.)"
            return outcome
        if pause:
            if on_retry is not None:
                on_retry(pause, outcome)
            clock.sleep(pause)


def _judge(resource: str, answer: Reply | NoReply | None, policy: RetryPolicy) -> Token | Failure:
    if answer is None:
        return failures.busy(resource, policy.timeout)
    if isinstance(answer, Reply):
        return protocol.read_reply(resource, answer, clock.time())
    if answer.timed_out:
        return failures.no_answer(resource, policy.timeout)
    return failures.unreachable(resource, answer.reason)


class _Turn:
    """The right to send to an endpoint, for one request.

    :param overdue_from: when the request is taken for lost.
    """

    def __init__(self, overdue_from: float) -> None:
        # A lock of its own: where gevent or eventlet is patched in later, one from before would stop the whole hub.
        self.lock = threading.Lock()
        self.lock.acquire()
        self.overdue_from = overdue_from


_turns: dict[int, _Turn] = {}
_asking: set[int] = set()


def is_asking() -> bool:
    """Whether this thread is inside a request to an endpoint, or waiting to send one."""
    return threading.get_ident() in _asking


def _send_alone(resource: str, send: Send, seconds: float, port: int) -> Reply | NoReply | None:
    """Send, when no other request of this process is at the endpoint; None if that was not so in time."""
    if sys.is_finalizing():
        # The other threads are gone, one that had its turn among them.
        return send(resource, seconds)
    deadline = time.monotonic() + seconds
    thread = threading.get_ident()
    turn = None
    try:
        _asking.add(thread)
        turn = _take_turn(port, deadline)
        remaining = deadline - time.monotonic()
        return None if turn is None or remaining < _MIN_REQUEST_SECONDS else send(resource, remaining)
    finally:
        if turn is not None:
            _forget(port, turn)
            turn.lock.release()
        _asking.discard(thread)


def _take_turn(port: int, deadline: float) -> _Turn | None:
    mine = _Turn(deadline + _GRACE)
    while (current := _turns.setdefault(port, mine)) is not mine:
        until = min(deadline, current.overdue_from)
        if current.lock.acquire(timeout=max(0.0, until - time.monotonic())):
            current.lock.release()
        elif until == deadline:
            return None
        else:
            _forget(port, current)
    return mine


def _forget(port: int, turn: _Turn) -> None:
    if _turns.get(port) is turn:
        _turns.pop(port, None)


def _after_fork() -> None:
    # The threads that have their turn are not in the child.
    _turns.clear()
    _asking.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
