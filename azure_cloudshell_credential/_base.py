"""What a Cloud Shell credential decides, whether it is sync or async.

The whole way from ``get_token`` to a token is a generator here. It yields the four things that need I/O or waiting,
:class:`Wait`, :class:`Fly`, :class:`~._protocol.Ask` and :class:`~._protocol.Pause`; the two credential classes differ
in how they perform these and in nothing else.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from concurrent.futures import Future
from time import monotonic
from typing import Any, NoReturn

from azure.core.credentials import AccessTokenInfo, TokenRequestOptions

from . import _environment, _failures, _protocol, _turnstile
from ._cache import Flight, Held, TokenCache
from ._failures import Failure
from ._protocol import Ask, NoReply, Patience, Pause, Reply, Token

_LOGGER = logging.getLogger(__name__)

_GRACE = 1.0
"""Seconds past its deadline that a flight is waited for, in case its thread or event loop is no more."""


class Wait:
    """Wait at most ``seconds`` until ``future`` is done. The answer is whether it is."""

    __slots__ = ("future", "seconds")

    def __init__(self, future: Future[Any], seconds: float) -> None:
        self.future = future
        self.seconds = seconds


class Fly:
    """Drive ``_fly(flight)`` to its end, so that a caller who goes away does not end it for others."""

    __slots__ = ("flight",)

    def __init__(self, flight: Flight) -> None:
        self.flight = flight


Step = Wait | Fly | Ask | Pause


class CredentialBase:
    """Configuration, cache and decisions of a Cloud Shell credential."""

    def __init__(self, *, endpoint: str | None = None, **kwargs: Any) -> None:
        self._environment = _environment.read(os.environ, endpoint)
        self._configure(kwargs)

    def _configure(self, options: dict[str, Any]) -> None:
        self._options = options
        self._patience = Patience(
            timeout=_number(options, "timeout", _protocol.DEFAULT_TIMEOUT),
            retry_total=int(_number(options, "retry_total", _protocol.DEFAULT_RETRY_TOTAL)),
            backoff_factor=_number(options, "retry_backoff_factor", _protocol.DEFAULT_BACKOFF_FACTOR),
        )
        for name in ("connection_timeout", "read_timeout"):
            _number(options, name, 0.0)
        self._cache = TokenCache()

    @property
    def endpoint(self) -> str | None:
        """The URL that tokens are asked from; None outside Cloud Shell."""
        return self._environment.endpoint.url if self._environment.endpoint else None

    def __getstate__(self) -> dict[str, Any]:
        # The configuration travels; tokens, flights and connections never do.
        return {"environment": self._environment, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._environment = state["environment"]
        self._configure(state["options"])

    def _obtain(
        self, scopes: tuple[str, ...], claims: str | None, tenant_id: str | None, pop: object
    ) -> Generator[Step, Any, Held | Failure]:
        """Get a token for a caller: the checks before and after, and the token itself."""
        outcome = yield from self._checked(scopes, claims, tenant_id, pop)
        if isinstance(outcome, Failure):
            _LOGGER.debug("No token from Cloud Shell: %s", outcome.message)
        return outcome

    def _checked(
        self, scopes: tuple[str, ...], claims: str | None, tenant_id: str | None, pop: object
    ) -> Generator[Step, Any, Held | Failure]:
        if not scopes:
            raise ValueError("A token request needs a scope.")
        if self._environment.endpoint is None:
            # Before any look at the scopes: in a chain outside Cloud Shell they are another credential's business.
            return _failures.not_in_cloud_shell(self._environment.refusal)
        resource = _protocol.scope_to_resource(scopes)
        if claims:
            return _failures.claims_not_supported(resource, claims)
        if pop:
            return _failures.pop_not_supported(resource)
        outcome = yield from self._token_for(resource)
        if isinstance(outcome, Failure):
            return outcome
        if tenant_id:
            actual = outcome.token.tenant_id or self._environment.tenant_id
            if actual is None or actual.casefold() != tenant_id.casefold():
                return _failures.other_tenant(resource, tenant_id, actual)
        self._cache.remember(scopes, outcome)
        return outcome

    def _token_for(self, resource: str) -> Generator[Step, Any, Held | Failure]:
        """Take the cached token, fly for a new one, or wait for whoever does."""
        while True:
            outcome, flight, is_pilot = self._cache.claim(resource, self._patience.timeout)
            if flight is None:
                assert outcome is not None
                return outcome
            if is_pilot:
                yield Fly(flight)
            if not (yield Wait(flight.done, max(0.0, flight.deadline - monotonic()) + _GRACE)):
                self._cache.land(flight, None)
                return _failures.no_answer(resource, self._patience.timeout)
            result = flight.done.result()
            if isinstance(result, Failure) and isinstance(outcome, Held) and outcome.is_valid():
                _LOGGER.warning("Kept the current token, whose early refresh failed: %s", result.message)
                return outcome
            if result is not None:
                return result

    def _fly(self, flight: Flight) -> Generator[Step, Any, None]:
        """Ask the endpoint, and let all who wait for the flight have what comes of it."""
        outcome: Token | Failure | None = None
        try:
            outcome = yield from self._acquire(flight.resource)
        finally:
            self._cache.land(flight, outcome)
        if isinstance(outcome, Token):
            _LOGGER.info("Got a token for %s from Cloud Shell, it expires at %d", flight.resource, outcome.expires_on)

    def _acquire(self, resource: str) -> Generator[Step, Any, Token | Failure]:
        """The protocol's acquisition, with each of its questions asked in turn."""
        steps = _protocol.acquire(resource, self._patience)
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                outcome: Token | Failure = end.value
                return outcome
            answer = (yield from self._in_turn(step)) if isinstance(step, Ask) else (yield step)

    def _in_turn(self, ask: Ask) -> Generator[Step, Any, Reply | NoReply | None]:
        assert self._environment.endpoint is not None
        deadline = monotonic() + ask.seconds
        turnstile = _turnstile.at_port(self._environment.endpoint.port)
        place = turnstile.queue_up(ask.seconds)
        try:
            if not (yield Wait(place, ask.seconds)):
                return None
            answer: Reply | NoReply = yield Ask(ask.resource, max(0.0, deadline - monotonic()))
            return answer
        finally:
            turnstile.leave(place)


def _number(options: dict[str, Any], name: str, default: float) -> float:
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a number of at least 0, not {value!r}.")
    return value


NO_WISHES = (None, None, None)


def wishes(options: TokenRequestOptions) -> tuple[str | None, str | None, object]:
    """The claims, tenant and proof of possession asked for. None counts as absent: Key Vault sends it."""
    given: dict[str, Any] = dict(options)
    return given.get("claims"), given.get("tenant_id"), given.get("pop")


def result(outcome: Held | Failure) -> Held:
    """The token, or the exception that a failure is for the caller."""
    return outcome if isinstance(outcome, Held) else _fail(outcome)


def _fail(failure: Failure) -> NoReturn:
    from ._errors import as_exception

    raise as_exception(failure)


def as_info(held: Held) -> AccessTokenInfo:
    """The token as ``get_token_info`` returns it. A new object: callers may change theirs."""
    token = held.token
    return AccessTokenInfo(token.value, token.expires_on, refresh_on=token.refresh_on)
