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

In memory only; shared by threads and event loops; knows nothing of HTTP, of scopes or of exceptions to raise.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Hashable
from typing import Any

from azure.core.credentials import AccessToken

from .._endpoint import acquisition, failures
from .._endpoint.failures import Failure
from .._endpoint.protocol import Token
from .in_flight import InFlight

_LOGGER = logging.getLogger(__name__)

REFRESH_OFFSET = 300
"""Seconds before expiry at which a token without a refresh time becomes stale, as in azure-identity."""

REFRESH_RETRY_DELAY = 30
"""Seconds between two attempts to replace a stale token: the endpoint caches until expiry and often has no other."""


class CachedToken:
    """A token and the moments at which it stops being fresh and valid.

    :param token: the token.
    :param satisfies_claims: whether it was acquired for a claims challenge.
    """

    __slots__ = ("access_token", "attempt_from", "fresh_until", "fresh_until_monotonic", "satisfies_claims", "token")

    def __init__(self, token: Token, *, satisfies_claims: bool = False) -> None:
        clock = acquisition.clock
        self.token = token
        self.access_token: AccessToken = AccessToken(token.value, token.expires_on)
        self.fresh_until = token.expires_on - REFRESH_OFFSET if token.refresh_on is None else token.refresh_on
        self.fresh_until_monotonic = clock.monotonic() + self.fresh_until - clock.time()
        self.attempt_from = clock.monotonic() + REFRESH_RETRY_DELAY
        self.satisfies_claims = satisfies_claims

    def is_fresh(self) -> bool:
        """Whether it is too early to ask for another."""
        clock = acquisition.clock
        return clock.time() < self.fresh_until and clock.monotonic() < self.fresh_until_monotonic

    def is_valid(self) -> bool:
        """Whether the token has not expired."""
        return acquisition.clock.time() < self.token.expires_on

    def needs_attempt(self) -> bool:
        """Whether it is time to try to replace it."""
        return not self.is_fresh() and acquisition.clock.monotonic() >= self.attempt_from


class TokenCache:
    """The tokens of one credential. A copy, or a pickle, holds the configuration and no token.

    :param budget: the seconds an acquisition may take.
    :param start: starts an acquisition.
    """

    def __init__(self, budget: float, start: Callable[..., None] = InFlight.start) -> None:
        self._budget = budget
        self._start = start
        self.forget()

    def __reduce__(self) -> tuple[type[TokenCache], tuple[float]]:
        return TokenCache, (self._budget,)

    def forget(self) -> None:
        """Forget all tokens. An acquisition in flight goes on for those who wait for it; its token is not kept."""
        self._by_request: dict[Hashable, CachedToken] = {}
        self._tokens: dict[Hashable, CachedToken] = {}
        self.forget_acquisitions()

    def forget_acquisitions(self) -> None:
        """Forget the acquisitions in flight: their threads are not copied by a fork."""
        self._in_flight: dict[Hashable, InFlight] = {}

    def drop(self, value: str) -> None:
        """Forget one token, which a service no longer takes."""
        for tokens in (self._tokens, self._by_request):
            for name, cached in list(tokens.items()):
                if cached.token.value == value:
                    tokens.pop(name, None)

    def fresh(self, request: Hashable) -> CachedToken | None:
        """The token for a request that was remembered, if it is fresh: the path that nearly every call takes."""
        try:
            cached = self._by_request[request]
        except (KeyError, TypeError):
            return None
        return cached if cached.is_fresh() else None

    def remember(self, request: Hashable, key: Hashable, cached: CachedToken) -> None:
        """Serve a request from now on with the token that is cached under a key, while it is fresh."""
        if self._tokens.get(key) is cached:
            self._by_request[request] = cached

    def claim(
        self,
        key: Hashable,
        acquire: Callable[[], Token | Failure],
        resource: str,
        *,
        claims: str | None = None,
        may_wait: bool = True,
    ) -> CachedToken | Failure | InFlight:
        """The token, the failure, or an acquisition to wait for. Its outcome is a ``CachedToken`` or a ``Failure``.

        :param key: what the token is cached under.
        :param acquire: acquires it.
        :param resource: what it is for, as failures say it.
        :keyword claims: a claims challenge: the service has refused the current token.
        :keyword may_wait: whether the caller may wait at all: code that runs inside a request may not.
        """
        current = self._valid(key)
        if current is not None and claims is None:
            if current.needs_attempt() and may_wait:
                self._refresh(key, acquire, resource, current)
            return current
        if not may_wait:
            return failures.nested(resource)
        mine = self._new(key, acquire, resource, claims)
        in_flight = self._in_flight.setdefault((key, claims), mine)
        if in_flight.runner == threading.get_ident():
            # A thread cannot wait for itself: this is a hook or a finalizer on the one that acquires.
            return failures.nested(resource)
        if in_flight is not mine and not sys.is_finalizing():
            return in_flight
        newer = self._valid(key)
        if newer is not None and claims is None:
            # Another one has ended since the first look.
            mine.end(newer)
            return newer
        self._start(mine)
        return mine

    def _refresh(
        self, key: Hashable, acquire: Callable[[], Token | Failure], resource: str, current: CachedToken
    ) -> None:
        """Try to replace a stale token, in the background."""
        mine = self._new(key, acquire, resource, None)
        if self._in_flight.setdefault((key, None), mine) is not mine:
            return
        if self._tokens.get(key) is not current or not current.needs_attempt() or sys.is_finalizing():
            # Another attempt has been made since the first look.
            mine.end(current)
            return
        current.attempt_from = acquisition.clock.monotonic() + REFRESH_RETRY_DELAY
        self._start(mine, in_background=True)

    def _valid(self, key: Hashable) -> CachedToken | None:
        cached = self._tokens.get(key)
        return cached if cached is not None and cached.is_valid() else None

    def _new(
        self, key: Hashable, acquire: Callable[[], Token | Failure], resource: str, claims: str | None
    ) -> InFlight:
        refused = self._tokens.get(key)

        def finish(in_flight: InFlight, outcome: Any) -> Any:
            return self._finish(in_flight, key, claims, refused, resource, outcome)

        def overdue(was_run: bool) -> Failure:
            return failures.no_answer(resource, self._budget) if was_run else failures.not_run(resource)

        return InFlight(acquire, finish, self._budget, overdue)

    def _finish(
        self,
        in_flight: InFlight,
        key: Hashable,
        claims: str | None,
        before: CachedToken | None,
        resource: str,
        outcome: Any,
    ) -> Any:
        """Keep the outcome of an acquisition.

        :param before: the token that there was when it was started: with ``claims``, the one that was refused.
        :return: what goes to those who wait.
        """
        is_known = self._in_flight.get((key, claims)) is in_flight
        if isinstance(outcome, Token):
            outcome = self._keep(key, claims, before, resource, outcome) if is_known else CachedToken(outcome)
        elif isinstance(outcome, (StopIteration, StopAsyncIteration)) or not isinstance(
            outcome, (CachedToken, Failure, Exception)
        ):
            # Raised at a caller, these would end its thread, its process or its loop over a result.
            outcome = failures.broken_off(resource, type(outcome).__name__)
        # First the token, then the place: a caller that finds the place free finds the token. A thread that is overdue
        # keeps its place until it comes back, so that no further one is lost to what it waits for.
        if is_known and in_flight.runner is None:
            self._in_flight.pop((key, claims), None)
        if not isinstance(outcome, CachedToken) and claims is None and (valid := self._valid(key)) is not None:
            said = outcome.message if isinstance(outcome, Failure) else type(outcome).__name__
            _LOGGER.warning("Refresh failed; keeping the current token until it expires: %s", said)
            return valid
        return outcome

    def _keep(
        self, key: Hashable, claims: str | None, before: CachedToken | None, resource: str, token: Token
    ) -> CachedToken | Failure:
        if claims is not None and before is not None and before.token.value == token.value:
            return failures.refused_token_again(resource, claims)
        current = self._valid(key)
        if claims is None and current is not None and current is not before and current.satisfies_claims:
            # This one was asked for before the challenge.
            return current
        replaced = self._tokens.get(key)
        cached = self._tokens[key] = CachedToken(token, satisfies_claims=claims is not None)
        for tokens in (self._tokens, self._by_request):
            for name, each in list(tokens.items()):
                if each is replaced or not each.is_valid():
                    tokens.pop(name, None)
        return cached
