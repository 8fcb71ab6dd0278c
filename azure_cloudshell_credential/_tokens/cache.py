"""Tokens and their time: which token may be returned, and which acquisition is in flight for the next one.

Theory of operation. A token is FRESH until its refresh time, STALE between that and its expiry, INVALID after it. A
fresh token is returned and nothing else happens. While it is stale, everyone keeps the current token, and at most every
30 seconds an acquisition in the background tries to replace it. Once it is invalid, one acquisition is started and
everyone waits for its outcome.

A claims challenge means that a service has refused the current token. Only a new token or an error answers it, and one
acquisition serves all who bring the same challenge. A plain refresh that was started before does not replace what
satisfied it.

The wall clock decides whether a token is valid, since that is what the service will do. The monotonic clock can only
make it stale earlier, so that a wall clock that is set back does not keep an old token fresh; what the endpoint then
issues is judged by the wall clock alone, so that a clock that was ahead and is put right never costs a valid token.

There is no lock. Finalizers and signal handlers run between any two bytecodes, on a thread that may be in here, and ask
for tokens too: with a lock they would wait for themselves. With one that the same thread may take again (an RLock) they
would hold it while they wait for their token: against every other caller, and against a hook or a finalizer on the
thread that acquires it, until the budget is over.
What must be atomic is one operation on a dictionary: the caller whose acquisition gets in starts it.

In memory only; shared by threads and event loops; knows nothing of HTTP or of exceptions to raise.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Hashable
from typing import Any

from azure.core.credentials import AccessToken

from .._endpoint import clock, failures
from .._endpoint.failures import Failure
from .._endpoint.scopes import TokenRequest
from .._endpoint.token import Token
from .._endpoint.turns import is_in_turn
from .in_flight import InFlight

_LOGGER = logging.getLogger(__name__)

_END_LOOPS = (StopIteration, StopAsyncIteration)
"""What a mock without further side effects raises: at a caller, a loop over its results would end without a word."""

REFRESH_OFFSET = 300
"""Seconds before expiry at which a token without a refresh time becomes stale, as in azure-identity."""

REFRESH_RETRY_DELAY = 30
"""Seconds between two attempts to replace a stale token: the endpoint caches until expiry and often has no other."""


_MANY = 64
"""Tokens to keep before looking for expired ones among them; then twice as many as are valid, and so many more."""


class CachedToken:
    """A token and the moments at which it stops being fresh and valid."""

    __slots__ = ("access_token", "attempt_from", "condition", "fresh_until", "fresh_until_monotonic", "token")

    def __init__(self, token: Token) -> None:
        now = clock.current
        self.token = token
        self.access_token: AccessToken = AccessToken(token.value, token.expires_on)
        self.fresh_until = token.expires_on - REFRESH_OFFSET if token.refresh_on is None else token.refresh_on
        self.fresh_until_monotonic = now.monotonic() + self.fresh_until - now.time()
        self.attempt_from = now.monotonic() + REFRESH_RETRY_DELAY
        self.condition = token.condition

    def is_valid(self) -> bool:
        """Whether the token has not expired, and nothing else has ended its use."""
        is_current = clock.current.time() < self.token.expires_on
        return is_current and (self.condition is None or self.condition())


class TokenCache:
    """The tokens of one credential.

    :param budget: the seconds an acquisition may take.
    :param start: starts an acquisition.
    """

    def __init__(self, budget: float, start: Callable[[InFlight], None] = InFlight.start) -> None:
        self.budget = budget
        self._start = start
        self.forget()

    def forget(self) -> None:
        """Forget all tokens. An acquisition in flight goes on for those who wait for it; its token is not kept."""
        self._tokens: dict[Hashable, CachedToken] = {}
        self._many = _MANY
        self.forget_acquisitions()

    def forget_acquisitions(self) -> None:
        """Forget the acquisitions in flight: their threads are not copied by a fork."""
        self.in_flight: dict[Hashable, InFlight] = {}

    def drop(self, value: str) -> None:
        """Forget one token, which a service no longer takes, and all that have expired."""
        for key, cached in list(self._tokens.items()):
            if cached.token.value == value or not cached.is_valid():
                self._tokens.pop(key, None)

    def fresh(self, key: Hashable) -> CachedToken | None:
        """The token under a key, if it is fresh: the path that nearly every call takes."""
        try:
            cached = self._tokens[key]
        except (KeyError, TypeError):
            return None
        now = clock.current
        if now.time() < cached.fresh_until and now.monotonic() < cached.fresh_until_monotonic:
            return cached if cached.condition is None or cached.condition() else None
        return None

    def begin(
        self,
        key: Hashable,
        request: TokenRequest,
        acquire: Callable[[], Token | Failure],
    ) -> CachedToken | Failure | InFlight:
        """The token, the failure, or an acquisition to wait for. Its result is a ``CachedToken`` or a ``Failure``.

        :param key: what the token is cached under. For a request without options, ``fresh`` finds it under its scopes.
        :param request: what is asked for. With a claims challenge, the service has refused the current token.
        :param acquire: acquires it.
        """
        claims = request.claims
        usable = self.valid(key) if claims is None else None
        if usable is not None and not request.options:
            self._tokens[request.scopes] = usable
        # Code that runs inside a request must not wait for another one.
        may_wait = not is_in_turn()
        if usable is not None:
            now = clock.current.monotonic()
            if not may_wait or self.fresh(key) is usable or now < usable.attempt_from:
                return usable
            usable.attempt_from = now + REFRESH_RETRY_DELAY
        elif not may_wait:
            return failures.nested(request.resource)
        mine = Acquisition(self, key, request, acquire)
        try:
            in_flight = self.in_flight.setdefault(mine.place, mine)
            # While the interpreter shuts down, the thread of the one in flight is gone, and nobody would end it.
            if in_flight is mine or sys.is_finalizing():
                newer = self._tokens.get(key)
                if claims is None and newer is not None and newer is not usable and newer.is_valid():
                    # Another one has ended since this caller looked.
                    mine.end(newer)
                    return newer
                in_flight = mine
                self._start(mine)
        except BaseException:
            # A signal handler raised before the thread was started, or meanwhile: who comes next starts another.
            mine.give_up_place()
            raise
        if usable is None and in_flight.runner == threading.get_ident():
            # A thread cannot wait for itself: this is a hook or a finalizer on the one that acquires.
            return failures.nested(request.resource)
        return usable or in_flight

    def valid(self, key: Hashable) -> CachedToken | None:
        """The token under a key, unless it has expired."""
        cached = self._tokens.get(key)
        return cached if cached is not None and cached.is_valid() else None

    def keep(self, key: Hashable, token: Token, request: TokenRequest, before: CachedToken | None) -> CachedToken:
        """Cache what has been acquired.

        :param before: the token that there was when the acquisition was started.
        """
        current = self.valid(key)
        if request.claims is None and current is not None and current is not before:
            # It satisfies a challenge; this one was asked for before that.
            return current
        if request.claims is not None and current is not None:
            # Under no other key either is a token that a service has challenged the answer.
            self.drop(current.token.value)
        elif len(self._tokens) >= self._many:
            # Not each time: that would be a look at all tokens for each new one.
            self.drop("")
            self._many = 2 * len(self._tokens) + _MANY
        cached = self._tokens[key] = CachedToken(token)
        if not request.options:
            self._tokens[request.scopes] = cached
        return cached


class Acquisition(InFlight):
    """An acquisition in flight whose token is cached.

    :param cache: where to.
    :param key: what the token is cached under.
    :param request: what is asked for.
    :param acquire: acquires it.
    """

    def __init__(
        self, cache: TokenCache, key: Hashable, request: TokenRequest, acquire: Callable[[], Token | Failure]
    ) -> None:
        self._cache = cache
        self._key = key
        self._request = request
        # With claims, it is the one that the service has refused.
        self._before = cache.valid(key)
        self.place = (key, request.claims)
        """Where it is found by who asks for the same."""
        super().__init__(acquire, cache.budget)

    def give_up_place(self) -> None:
        """Leave the place to who comes next."""
        if self._has_place():
            self._cache.in_flight.pop(self.place, None)

    def _has_place(self) -> bool:
        return self._cache.in_flight.get(self.place) is self

    def _finish(self, outcome: Any) -> Any:
        is_known, is_plain = self._has_place(), self._request.claims is None
        if isinstance(outcome, Token):
            outcome = self._kept(outcome) if is_known else CachedToken(outcome)
        elif isinstance(outcome, _END_LOOPS) or not isinstance(outcome, (CachedToken, Failure, Exception)):
            # Raised at a caller, it would end its thread, its process or its loop over a result.
            outcome = failures.broken_off(self._request.resource, type(outcome).__name__)
        # First the token, then the place: a caller that finds the place free finds the token. A thread that is overdue
        # keeps its place until it comes back, so that no further one is lost to what it waits for.
        if not self.is_acquiring:
            self.give_up_place()
        if not isinstance(outcome, CachedToken) and is_plain and (valid := self._cache.valid(self._key)) is not None:
            said = outcome.what if isinstance(outcome, Failure) else type(outcome).__name__
            _LOGGER.warning("Refresh failed; keeping the current token until it expires: %s", said)
            return valid
        return outcome

    def _kept(self, token: Token) -> CachedToken | Failure:
        claims, before = self._request.claims, self._before
        if claims is not None and before is not None and before.token.value == token.value:
            return failures.refused_token_again(self._request.resource, claims)
        return self._cache.keep(self._key, token, self._request, before)

    def _overdue(self) -> Failure:
        resource = self._request.resource
        return failures.not_run(resource) if self.runner is None else failures.no_answer(resource, self._budget)
