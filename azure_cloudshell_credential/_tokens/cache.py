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
for tokens too; with a lock they would wait for themselves. What must be atomic is one operation on a dictionary:
the caller whose acquisition gets in starts it.

In memory only; shared by threads and event loops; knows nothing of HTTP or of exceptions to raise.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Hashable
from typing import Any

from azure.core.credentials import AccessToken

from .._endpoint import acquisition, clock, failures
from .._endpoint.failures import Failure
from .._endpoint.protocol import Token
from .._endpoint.scopes import TokenRequest
from .in_flight import InFlight

_LOGGER = logging.getLogger(__name__)

_END_LOOPS = (StopIteration, StopAsyncIteration)

REFRESH_OFFSET = 300
"""Seconds before expiry at which a token without a refresh time becomes stale, as in azure-identity."""

REFRESH_RETRY_DELAY = 30
"""Seconds between two attempts to replace a stale token: the endpoint caches until expiry and often has no other."""


class CachedToken:
    """A token and the moments at which it stops being fresh and valid."""

    __slots__ = ("access_token", "attempt_from", "fresh_until", "fresh_until_monotonic", "token")

    def __init__(self, token: Token) -> None:
        now = clock.current
        self.token = token
        self.access_token: AccessToken = AccessToken(token.value, token.expires_on)
        self.fresh_until = token.expires_on - REFRESH_OFFSET if token.refresh_on is None else token.refresh_on
        self.fresh_until_monotonic = now.monotonic() + self.fresh_until - now.time()
        self.attempt_from = now.monotonic() + REFRESH_RETRY_DELAY

    def is_valid(self) -> bool:
        """Whether the token has not expired."""
        return clock.current.time() < self.token.expires_on


class TokenCache:
    """The tokens of one credential.

    :param budget: the seconds an acquisition may take.
    :param start: starts an acquisition.
    """

    def __init__(self, budget: float, start: Callable[[InFlight], None] = InFlight.start) -> None:
        self._budget = budget
        self._start = start
        self.forget()

    def forget(self) -> None:
        """Forget all tokens. An acquisition in flight goes on for those who wait for it; its token is not kept."""
        self._tokens: dict[Hashable, CachedToken] = {}
        self.forget_acquisitions()

    def forget_acquisitions(self) -> None:
        """Forget the acquisitions in flight: their threads are not copied by a fork."""
        self._in_flight: dict[Hashable, InFlight] = {}

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
            return cached
        return None

    def claim(
        self,
        key: Hashable,
        request: TokenRequest,
        acquire: Callable[[], Token | Failure],
    ) -> CachedToken | Failure | InFlight:
        """The token, the failure, or an acquisition to wait for. Its outcome is a ``CachedToken`` or a ``Failure``.

        :param key: what the token is cached under. For a request without options, ``fresh`` finds it under its scopes.
        :param request: what is asked for. With a claims challenge, the service has refused the current token.
        :param acquire: acquires it.
        """
        tokens, claims = self._tokens, request.claims
        usable = self._valid(key) if claims is None else None
        if usable is not None and not request.options:
            tokens[request.scopes] = usable
        # Code that runs inside a request must not wait for another one.
        may_wait = not acquisition.is_asking()
        if usable is not None:
            now = clock.current.monotonic()
            if not may_wait or self.fresh(key) is usable or now < usable.attempt_from:
                return usable
            usable.attempt_from = now + REFRESH_RETRY_DELAY
        elif not may_wait:
            return failures.nested(request.resource)
        mine = self._new(key, request, acquire)
        try:
            in_flight = self._in_flight.setdefault((key, claims), mine)
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
            if self._in_flight.get((key, claims)) is mine:
                self._in_flight.pop((key, claims), None)
            raise
        if usable is None and in_flight.runner == threading.get_ident():
            # A thread cannot wait for itself: this is a hook or a finalizer on the one that acquires.
            return failures.nested(request.resource)
        return usable or in_flight

    def _valid(self, key: Hashable) -> CachedToken | None:
        cached = self._tokens.get(key)
        return cached if cached is not None and cached.is_valid() else None

    def _new(self, key: Hashable, request: TokenRequest, acquire: Callable[[], Token | Failure]) -> InFlight:
        before, resource, claims = self._tokens.get(key), request.resource, request.claims

        def finish(in_flight: InFlight, outcome: Any) -> Any:
            is_known = self._in_flight.get((key, claims)) is in_flight
            if isinstance(outcome, Token):
                outcome = self._keep(key, outcome, request, before) if is_known else CachedToken(outcome)
            elif isinstance(outcome, _END_LOOPS) or not isinstance(outcome, (CachedToken, Failure, Exception)):
                # Raised at a caller, it would end its thread, its process or its loop over a result.
                outcome = failures.broken_off(resource, type(outcome).__name__)
            # First the token, then the place: a caller that finds the place free finds the token. A thread that is
            # overdue keeps its place until it comes back, so that no further one is lost to what it waits for.
            if is_known and in_flight.runner is None:
                self._in_flight.pop((key, claims), None)
            if not isinstance(outcome, CachedToken) and claims is None and (valid := self._valid(key)) is not None:
                said = outcome.message if isinstance(outcome, Failure) else type(outcome).__name__
                _LOGGER.warning("Refresh failed; keeping the current token until it expires: %s", said)
                return valid
            return outcome

        def overdue(was_run: bool) -> Failure:
            return failures.no_answer(resource, self._budget) if was_run else failures.not_run(resource)

        return InFlight(acquire, finish, self._budget, overdue)

    def _keep(
        self, key: Hashable, token: Token, request: TokenRequest, before: CachedToken | None
    ) -> CachedToken | Failure:
        """Cache what has been acquired.

        :param before: the token that there was when the acquisition was started: with ``claims``, the refused one.
        """
        claims = request.claims
        if claims is not None and before is not None and before.token.value == token.value:
            return failures.refused_token_again(request.resource, claims)
        current = self._valid(key)
        if claims is None and current is not None and current is not before:
            # It satisfies a challenge; this one was asked for before that.
            return current
        self.drop("" if current is None else current.token.value)
        cached = self._tokens[key] = CachedToken(token)
        if not request.options:
            self._tokens[request.scopes] = cached
        return cached
