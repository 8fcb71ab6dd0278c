"""Tokens and their time: which token may be handed out, who asks for the next one, who waits for it.

A token is FRESH until its refresh time, STALE between that and its expiry, INVALID after it. A fresh token is handed
out and nothing else happens. While it is stale, one caller asks for a new one, at most every 30 seconds, and everyone
else keeps the old one. Once it is invalid, one caller asks and everyone waits for what comes of it (a *flight*).

In memory only; shared by threads and event loops; knows nothing of HTTP or of exceptions.
"""

from __future__ import annotations

import os
from concurrent.futures import Future
from threading import Lock
from time import monotonic, time
from weakref import WeakSet

from azure.core.credentials import AccessToken

from . import _failures
from ._failures import Failure
from ._protocol import Token

REFRESH_MARGIN = 300
"""Seconds before expiry at which a token without a refresh time becomes stale, as in azure-identity."""

REFRESH_INTERVAL = 30
"""Seconds between two attempts to replace a stale token: the endpoint caches until expiry and often has no other."""

HOLD_OFF = 30
"""Seconds after a timed-out request in which the endpoint is not asked again."""


class Held:
    """A token and the moments at which it stops being fresh and valid.

    Each moment is kept twice, on the wall clock and on the monotonic one, and the earlier decides: a wall clock
    that is set back does not make an expired token look fresh, not even when the endpoint hands it out again.

    :param token: the token.
    :param previous: what was held before it; if that is the same token, its monotonic moments still count.
    """

    __slots__ = ("access_token", "fresh_until", "fresh_until_monotonic", "token", "valid_until_monotonic")

    def __init__(self, token: Token, previous: Held | None = None) -> None:
        now, now_monotonic = time(), monotonic()
        refresh_on = token.expires_on - REFRESH_MARGIN if token.refresh_on is None else token.refresh_on
        self.token = token
        self.access_token: AccessToken = AccessToken(token.value, token.expires_on)
        self.fresh_until = refresh_on
        self.fresh_until_monotonic = now_monotonic + refresh_on - now
        self.valid_until_monotonic = now_monotonic + token.expires_on - now
        if previous is not None and previous.token.value == token.value:
            self.valid_until_monotonic = min(self.valid_until_monotonic, previous.valid_until_monotonic)
            self.fresh_until_monotonic = min(self.fresh_until_monotonic, self.valid_until_monotonic)

    def is_fresh(self) -> bool:
        """Whether it is too early to ask for another."""
        return time() < self.fresh_until and monotonic() < self.fresh_until_monotonic

    def is_valid(self) -> bool:
        """Whether the token has not expired."""
        return time() < self.token.expires_on and monotonic() < self.valid_until_monotonic


class Flight:
    """One acquisition under way. Done, it holds what came of it, or None if it was given up halfway."""

    __slots__ = ("deadline", "done", "resource")

    def __init__(self, resource: str, deadline: float) -> None:
        self.resource = resource
        self.deadline = deadline
        self.done: Future[Held | Failure | None] = Future()


class _Entry:
    """What is known of one resource."""

    __slots__ = ("flight", "held", "refresh_from")

    def __init__(self) -> None:
        self.held: Held | None = None
        self.flight: Flight | None = None
        self.refresh_from = 0.0


class TokenCache:
    """The tokens of one credential, by the resource asked for."""

    def __init__(self) -> None:
        self._mutex = Lock()
        self._entries: dict[str, _Entry] = {}
        self._by_scopes: dict[tuple[str, ...], Held] = {}
        self._silent_since = 0.0
        self._silent_until = 0.0
        _caches.add(self)

    def fresh(self, scopes: tuple[str, ...], tenant_id: str | None = None) -> Held | None:
        """The token for these scopes if it is fresh: the path that nearly every call takes, without a lock."""
        try:
            held = self._by_scopes[scopes]
        except (KeyError, TypeError):
            return None
        if (
            time() < held.fresh_until
            and monotonic() < held.fresh_until_monotonic
            and (tenant_id is None or tenant_id == held.token.tenant_id)
        ):
            return held
        return None

    def remember(self, scopes: tuple[str, ...], held: Held) -> None:
        """Serve these scopes from now on with this token while it is fresh."""
        self._by_scopes[scopes] = held

    def claim(self, resource: str, timeout: float) -> tuple[Held | Failure | None, Flight | None, bool]:
        """What to do for a caller who wants a token.

        :param timeout: the budget, in seconds, of a flight that starts now.
        :return: the outcome if there is one already; the flight to wait for, if any; and whether the caller is the
            one to fly it. A token together with a flight is to be handed out should the flight fail.
        """
        with self._mutex:
            now = monotonic()
            is_silent = now < self._silent_until
            entry = self._entries.setdefault(resource, _Entry())
            held = entry.held if entry.held is not None and entry.held.is_valid() else None
            if held is not None:
                if held.is_fresh() or entry.flight is not None or is_silent or now < entry.refresh_from:
                    return held, None, False
            elif entry.flight is not None:
                return None, entry.flight, False
            elif is_silent:
                since, rest = now - self._silent_since, self._silent_until - now
                return _failures.still_no_answer(resource, since, rest), None, False
            entry.refresh_from = now + REFRESH_INTERVAL
            entry.flight = Flight(resource, now + timeout)
            return held, entry.flight, True

    def land(self, flight: Flight, outcome: Token | Failure | None) -> None:
        """End a flight: keep its token, if any, and wake all who wait for it."""
        result: Held | Failure | None
        with self._mutex:
            if flight.done.done():
                return
            entry = self._entries.setdefault(flight.resource, _Entry())
            if entry.flight is flight:
                entry.flight = None
            if isinstance(outcome, Token):
                self._silent_until = 0.0
                result = entry.held = Held(outcome, entry.held)
                if not result.is_valid():
                    result = _failures.unusable_reply(flight.resource, "its token has already expired")
            else:
                result = outcome
                if outcome is not None and outcome.kind == "timeout" and monotonic() >= self._silent_until:
                    self._silent_since = monotonic()
                    self._silent_until = self._silent_since + HOLD_OFF
        flight.done.set_result(result)

    def after_fork(self) -> None:
        """In a forked child: keep the tokens, forget the flights of threads that were not copied."""
        self._mutex = Lock()
        for entry in self._entries.values():
            entry.flight = None

    def forget_tokens(self) -> None:
        """Hand out no token that is held now."""
        with self._mutex:
            self._by_scopes.clear()
            for entry in self._entries.values():
                entry.held = None


_caches: WeakSet[TokenCache] = WeakSet()


def forget_all_tokens() -> None:
    """Make every credential of this process ask anew; the emulator's way to end the life of its tokens."""
    for cache in list(_caches):
        cache.forget_tokens()


def _after_fork() -> None:
    for cache in list(_caches):
        cache.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
