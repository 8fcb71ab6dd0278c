"""How a token is acquired: ask, judge the answer, pause, ask again, within one budget.

Theory of operation. An acquisition is one loop over a function that sends. The function belongs to the caller: the
credential sends through an azure-core pipeline, the command line over the bare exchange. What the loop adds is the
decision whether and when to ask again, and it is made here and nowhere else. The budget covers everything, the pauses
included, so that it is one number that a caller waits at most.

An answer ends the loop unless its failure is retryable. Transient errors are asked again ``retry_total`` times, with
pauses that double. The portal's timeout, which users meet most, is asked again as long as the budget lasts: a script
in the field needed up to six attempts with pauses of 5 and 10 seconds. A token for another resource is a mix-up inside
the endpoint and is asked for again once, at once.

That a process never has two requests at one endpoint is the business of the function that sends, not of the loop
(``_endpoint_lock``), so that nobody waits for another acquisition's pauses.

Standard library only: this is on the path of the ``token`` command.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic, sleep, time

from . import failures, protocol
from .failures import Failure
from .protocol import NoReply, Reply, Token

Send = Callable[[str, float], "Reply | NoReply | None"]
"""Sends the request for a resource within so many seconds; None: other requests had the endpoint all that time."""

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
MIN_REQUEST_SECONDS = 0.001
"""With less than this left, a request is not worth starting; and requests refuses a timeout of 0."""


class RetryPolicy:
    """How long and how often to ask.

    :param timeout: seconds for the whole acquisition.
    :param retry_total: maximum retries after a transient failure; None means 3, and after a portal timeout as many as
        the budget allows.
    :param backoff_factor: seconds before the first retry, doubled for each one after it.
    """

    __slots__ = ("backoff_factor", "retry_total", "timeout")

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
        if failure.kind == "wrong_resource":
            # The next answer is right or will not be: waiting changes nothing.
            return 0.0 if retry < min(1, self._limit) else None
        if failure.kind == "portal":
            pause = _PORTAL_PAUSES[min(retry, len(_PORTAL_PAUSES) - 1)] * self.backoff_factor / DEFAULT_BACKOFF_FACTOR
            is_unlimited = self.retry_total is None and pause > 0
        else:
            pause = self.backoff_factor * 2 ** min(retry, _MAX_DOUBLINGS)
            is_unlimited = False
        if not is_unlimited and retry >= self._limit:
            return None
        # Without jitter, scripts that the same hiccup stopped would all ask again at the same moment. (The random
        # module would cost the command line its import.)
        jitter = 1 + _JITTER * (os.urandom(1)[0] / 127.5 - 1)
        return max(failure.retry_after, pause * jitter)

    @property
    def _limit(self) -> int:
        return DEFAULT_RETRY_TOTAL if self.retry_total is None else self.retry_total


def acquire(
    resource: str, send: Send, policy: RetryPolicy, pause: Callable[[float, Failure], float] | None = None
) -> Token | Failure:
    """Ask for a token as often as makes sense within the budget.

    :param resource: what to ask for.
    :param send: sends one request.
    :param policy: the budget.
    :param pause: waits so many seconds after a failure, and returns those of them that are to be taken off the budget
        although they have not passed. Default: ``sleeping``.
    """
    start = monotonic()
    deadline = start + policy.timeout
    attempts = 0
    while True:
        remaining = deadline - monotonic()
        if remaining < MIN_REQUEST_SECONDS:
            return failures.no_answer(resource, policy.timeout)
        answer = send(resource, remaining)
        attempts += 1
        if answer is None:
            return failures.busy(resource, policy.timeout)
        if isinstance(answer, NoReply):
            if answer.timed_out:
                return failures.no_answer(resource, policy.timeout)
            return failures.unreachable(resource, answer.reason)
        outcome = protocol.read_reply(resource, answer, time())
        if isinstance(outcome, Token):
            return outcome
        seconds = policy.pause_before_retry(attempts - 1, outcome) if outcome.retryable else None
        if seconds is None or monotonic() + seconds >= deadline:
            if attempts > 1:
                tried = f"{failures.count(attempts, 'time')} in {failures.count(monotonic() - start, 'second')}"
                outcome.what += f" (Asked {tried}.)"
            return outcome
        if seconds:
            deadline -= (pause or sleeping)(seconds, outcome)


def sleeping(seconds: float, failure: Failure) -> float:
    """Wait. The pytest fixture ``cloud_shell`` puts ``skipping`` in its place."""
    sleep(seconds)
    return 0.0


def skipping(seconds: float, failure: Failure) -> float:
    """Do not wait, and let the budget be used up all the same: for tests, which see every retry and wait for none."""
    return seconds
