"""How a token is acquired: ask, judge the answer, pause, ask again, within one budget.

Theory of operation. An acquisition is one loop over a function that sends. The function belongs to the caller: the
credential sends through an azure-core pipeline, the command line over the bare exchange. What the loop adds is the
decision whether and when to ask again, and it is made here and nowhere else. The budget covers everything, the pauses
included, so that it is one number that a caller waits at most.

An answer ends the loop unless asking again may help. Transient errors are asked again ``retry_total`` times, with
pauses that double. The portal's timeout, which users meet most, is asked again as long as the budget lasts: a script
in the field needed up to six attempts with pauses of 5 and 10 seconds. A token for another resource is a mix-up inside
the endpoint and is asked for again once, at once.

Each request waits for its turn (``turns``), the pauses between them do not.

Standard library only: this is on the path of the ``token`` command.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from . import clock, failures, protocol
from .environment import Endpoint
from .failures import Failure
from .protocol import NoReply, Reply
from .text import count
from .token import Token
from .turns import Turn

Send = Callable[[str, float], "Reply | NoReply"]
"""Sends the request for a resource within so many seconds."""

MAX_TIMEOUT = 86400.0
"""Seconds, a day: a longer budget counts as this one, which every platform's timers can take."""

_LONGEST_PAUSE = 10.0
"""Seconds: a browser tab may become active again at any moment."""


_MIN_REQUEST_SECONDS = 0.001
"""With less than this left, a request is not worth starting; and requests refuses a timeout of 0."""

_BUSY = NoReply("other requests took too long", "busy")


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


def ask_endpoint(
    resource: str,
    send: Send,
    policy: RetryPolicy,
    endpoint: Endpoint,
    on_retry: Callable[[float, Failure], None] | None = None,
) -> Token | Failure:
    """Ask for a token as often as makes sense within the budget.

    :param resource: what to ask for.
    :param send: sends one request.
    :param policy: the budget.
    :param endpoint: where the requests go.
    :param on_retry: told of each pause before it is taken: its seconds, and the failure.
    """
    start = clock.current.monotonic()
    deadline = start + policy.timeout
    retries = 0
    outcome: Token | Failure | None = None
    while (remaining := deadline - clock.current.monotonic()) >= _MIN_REQUEST_SECONDS:
        with Turn(endpoint.port, remaining) as seconds:
            answer = send(resource, seconds) if seconds >= _MIN_REQUEST_SECONDS else _BUSY
        if isinstance(answer, Reply):
            outcome = protocol.read_reply(resource, answer, clock.current.time())
        else:
            outcome = answer.as_failure(resource, policy.timeout, endpoint)
        if isinstance(outcome, Token):
            return outcome
        pause = policy.pause_before_retry(retries, outcome)
        now = clock.current.monotonic()
        if pause is None or now + pause >= deadline:
            if retries:
                took = count(now - start, "second") if now - start >= 1 else "under a second"
                outcome.what += f" (Asked {retries + 1} times in {took}.)"
            return outcome
        retries += 1
        if pause:
            if on_retry is not None:
                on_retry(pause, outcome)
            clock.current.sleep(pause)
    return outcome or failures.no_answer(resource, policy.timeout)
