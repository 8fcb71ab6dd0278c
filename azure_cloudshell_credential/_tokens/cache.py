"""Tokens and their time: which token may be returned, and which acquisition is under way for the next one.

Theory of operation. A token is FRESH until its refresh time, STALE between that and its expiry, INVALID after it. A
fresh token is returned and nothing else happens. While it is stale, one caller starts an acquisition, at most every
30 seconds, and waits for it; everyone else keeps the current token, and so does that caller if it fails. Once it is
invalid, one acquisition is started and everyone waits for what comes of it.

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
import os
import sys
from collections.abc import Callable, Hashable
from threading import get_ident
from time import monotonic, time
from typing import Any
from weakref import WeakValueDictionary

from azure.core.credentials import AccessToken

from .._endpoint import failures
from .._endpoint.failures import Failure
from .._endpoint.protocol import Token
from .in_flight import InFlight

_LOGGER = logging.getLogger(__name__)

REFRESH_OFFSET = 300
"""Seconds before expiry at which a token without a refresh time becomes stale, as in azure-identity."""

REFRESH_RETRY_DELAY = 30
"""Seconds between two attempts to replace a stale token: the endpoint caches until expiry and often has no other."""

CIRCUIT_BREAKER_SECONDS = 30
"""Seconds after a timed-out request in which the endpoint is not asked again."""

REFUSAL_SECONDS = 600
"""Seconds for which a refused audience is remembered: the list changes with Cloud Shell's image, not in a session."""


class CachedToken:
    """A token and the moments at which it stops being fresh and valid.

    :param token: the token.
    """

    __slots__ = ("access_token", "fresh_until", "fresh_until_monotonic", "token")

    def __init__(self, token: Token) -> None:
        refresh_on = token.expires_on - REFRESH_OFFSET if token.refresh_on is None else token.refresh_on
        self.token = token
        self.access_token: AccessToken = AccessToken(token.value, token.expires_on)
        self.fresh_until = refresh_on
        self.fresh_until_monotonic = monotonic() + refresh_on - time()

    def is_fresh(self) -> bool:
        """Whether it is too early to ask for another."""
        return time() < self.fresh_until and monotonic() < self.fresh_until_monotonic

    def is_valid(self) -> bool:
        """Whether the token has not expired."""
        return time() < self.token.expires_on


class _Entry:
    """What is known of one resource."""

    __slots__ = ("cached", "refresh_from", "refusal")

    def __init__(self) -> None:
        self.cached: CachedToken | None = None
        self.refresh_from = 0.0
        self.refusal: tuple[Failure, float] | None = None

    def valid(self) -> CachedToken | None:
        """The token, unless it has expired."""
        cached = self.cached
        return cached if cached is not None and cached.is_valid() else None


class TokenCache:
    """The tokens of one credential.

    :param budget: the seconds an acquisition may take; None: as long as it takes.
    """

    def __init__(self, budget: float | None) -> None:
        self._budget = budget
        self._entries: dict[Hashable, _Entry] = {}
        self._by_request: dict[Hashable, _Entry] = {}
        self._in_flight: dict[_Entry, InFlight] = {}
        self._circuit: tuple[float, float] | None = None
        _caches[id(self)] = self

    def fresh(self, request: Hashable, tenant_id: str | None = None) -> CachedToken | None:
        """The token for a request that was remembered, if it is fresh: the path that nearly every call takes.

        :param tenant_id: the tenant it must be from, if that matters.
        """
        try:
            cached = self._by_request[request].cached
        except (KeyError, TypeError):
            return None
        if (
            cached is not None
            # is_fresh(), without the time that the call takes.
            and time() < cached.fresh_until
            and monotonic() < cached.fresh_until_monotonic
            and (tenant_id is None or tenant_id == cached.token.tenant_id)
        ):
            return cached
        return None

    def remember(self, request: Hashable, resource: Hashable) -> None:
        """Serve this request from now on with the token for this resource while it is fresh."""
        if (entry := self._entries.get(resource)) is not None:
            self._by_request[request] = entry

    def claim(
        self,
        resource: Hashable,
        acquire: Callable[[], Token | Failure],
        *,
        must_ask: bool = False,
        may_wait: bool = True,
    ) -> CachedToken | Failure | InFlight:
        """What a caller who wants a token is to have: the token, why there is none, or an acquisition to wait for.

        An acquisition's outcome is a ``CachedToken`` or a ``Failure``.

        :param resource: what the token is cached under.
        :param acquire: asks for it.
        :param must_ask: ask even if there is a token: it is not good enough for a claims challenge.
        :param may_wait: whether the caller may wait at all: code that runs inside a request may not.
        """
        entry = self._entries.setdefault(resource, _Entry())
        if must_ask:
            return self._start(self._new(entry, resource, acquire))
        cached, valid = entry.cached, entry.valid()
        if valid is not None and (valid.is_fresh() or monotonic() < entry.refresh_from):
            return valid
        if not may_wait:
            return valid or failures.nested(str(resource))
        current = self._in_flight.get(entry)
        if current is None:
            if (failure := self._known_failure(entry, resource)) is not None:
                return valid or failure
            mine = self._new(entry, resource, acquire)
            current = self._in_flight.setdefault(entry, mine)
            if current is mine:
                newer = entry.valid()
                if newer is not None and newer is not cached:
                    # Another one has ended since the first look, and its token will do.
                    mine.end(newer.token)
                    return newer
                entry.refresh_from = monotonic() + REFRESH_RETRY_DELAY
                return self._start(mine)
        if valid is not None:
            return valid
        if sys.is_finalizing():
            # The thread of the other one is gone.
            return self._start(self._new(entry, resource, acquire))
        # A thread cannot wait for itself: this is a hook, a signal handler or a finalizer on the one that acquires.
        return failures.nested(str(resource)) if current.runner == get_ident() else current

    def _new(self, entry: _Entry, resource: Hashable, acquire: Callable[[], Token | Failure]) -> InFlight:
        def finish(in_flight: InFlight, outcome: Any) -> Any:
            return self._finish(entry, in_flight, resource, outcome)

        def overdue() -> Failure:
            return failures.no_answer(str(resource), self._budget or 0.0)

        return InFlight(acquire, finish, self._budget, overdue)

    def _start(self, in_flight: InFlight) -> InFlight:
        in_flight.start()
        return in_flight

    def _known_failure(self, entry: _Entry, resource: Hashable) -> Failure | None:
        """Why asking would be in vain at the moment."""
        now = monotonic()
        if entry.refusal is not None:
            failure, until = entry.refusal
            if now < until:
                return failure
        if self._circuit is not None:
            since, until = self._circuit
            if now < until:
                return failures.circuit_open(str(resource), now - since, until - now)
        return None

    def _finish(self, entry: _Entry, in_flight: InFlight, resource: Hashable, outcome: Any) -> Any:
        """Keep what came of an acquisition.

        :return: what those who waited are to have.
        """
        if isinstance(outcome, Token):
            self._circuit = None
            outcome = entry.cached = CachedToken(outcome)
            entry.refusal = None
        elif isinstance(outcome, Failure):
            self._keep_failure(entry, outcome)
        # First the token, then the place: a caller that finds the place free finds the token.
        if self._in_flight.get(entry) is in_flight:
            self._in_flight.pop(entry, None)
        if isinstance(outcome, CachedToken):
            return outcome
        if isinstance(outcome, BaseException) and (
            not isinstance(outcome, Exception) or isinstance(outcome, (StopIteration, StopAsyncIteration))
        ):
            # Raised at a caller, these would end its thread, its process or its loop over a result.
            outcome = failures.broken_off(str(resource), type(outcome).__name__)
        valid = entry.valid()
        if valid is not None:
            said = outcome.message if isinstance(outcome, Failure) else type(outcome).__name__
            _LOGGER.warning("Refresh failed; keeping the current token until it expires: %s", said)
            return valid
        return outcome

    def _keep_failure(self, entry: _Entry, failure: Failure) -> None:
        now = monotonic()
        if failure.kind == "audience":
            entry.refusal = (failure, now + REFUSAL_SECONDS)
        elif failure.kind == "timeout" and (self._circuit is None or now >= self._circuit[1]):
            self._circuit = (now, now + CIRCUIT_BREAKER_SECONDS)

    def forget_tokens(self) -> None:
        """Forget all cached tokens."""
        entries, self._entries, self._by_request = self._entries, {}, {}
        for entry in entries.values():
            entry.cached = None

    def forget_refusals(self) -> None:
        """Ask again for what was refused."""
        for entry in list(self._entries.values()):
            entry.refusal = None

    def after_fork(self) -> None:
        """In a forked child: keep the tokens, forget the acquisitions, whose threads were not copied."""
        self._in_flight.clear()


_caches: WeakValueDictionary[int, TokenCache] = WeakValueDictionary()


def _all_caches() -> list[TokenCache]:
    # A copy made in one operation: credentials come and go in other threads meanwhile.
    return [cache for reference in _caches.valuerefs() if (cache := reference()) is not None]


def forget_all_tokens() -> None:
    """Make every credential of this process ask anew; the emulator's way to end the life of its tokens."""
    for cache in _all_caches():
        cache.forget_tokens()


def forget_all_refusals() -> None:
    """Make every credential of this process ask again for what was refused."""
    for cache in _all_caches():
        cache.forget_refusals()


def _after_fork() -> None:
    for cache in _all_caches():
        cache.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
