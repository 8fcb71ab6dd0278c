"""Cloud Shell's endpoint as a source of tokens: its configuration, what it is asked, and what the answer is for."""

from __future__ import annotations

import logging
import os
from inspect import iscoroutinefunction
from typing import Any

from .._endpoint import acquisition, failures, protocol
from .._endpoint.acquisition import RetryPolicy
from .._endpoint.environment import Environment, read_environment
from .._endpoint.failures import Failure
from .._endpoint.protocol import Token
from .._tokens.cache import CachedToken
from .._tokens.in_flight import InFlight
from .pipeline import make_send
from .sources import TokenRequest, TokenSource

_LOGGER = logging.getLogger(__name__)

CIRCUIT_BREAKER_SECONDS = 30
"""Seconds after a timed-out request in which the endpoint is not asked again."""


class CloudShellSource(TokenSource):
    """Asks the endpoint that the environment, or the user, names.

    :param endpoint: its URL; None takes what the environment says.
    :param options: the credential's keyword arguments.
    :raises ValueError: for an option that cannot be used.
    """

    def __init__(self, endpoint: str | None, options: dict[str, Any]) -> None:
        self._endpoint = endpoint
        self._configure(read_environment(os.environ, endpoint), options)

    def __getstate__(self) -> dict[str, Any]:
        return {"endpoint": self._endpoint, "environment": self.environment, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._endpoint = state["endpoint"]
        self._configure(state["environment"], state["options"])

    def _configure(self, environment: Environment, options: dict[str, Any]) -> None:
        self.environment = environment
        self._options = options
        self._policy = RetryPolicy(
            timeout=_seconds(options, "timeout", acquisition.DEFAULT_TIMEOUT),
            retry_total=_retries(options, "retry_total"),
            backoff_factor=_number(options, "retry_backoff_factor", acquisition.DEFAULT_BACKOFF_FACTOR),
        )
        for name in ("connection_timeout", "read_timeout"):
            _seconds(options, name, acquisition.DEFAULT_TIMEOUT)
        self._transport: Any = options.get("transport")
        if iscoroutinefunction(getattr(self._transport, "send", None)):
            raise ValueError(
                "transport must be one of azure-core's synchronous transports, such as RequestsTransport, also for the "
                "asynchronous credential: every token request runs in a thread of its own."
            )
        self._connect()
        super().__init__(self._policy.timeout)

    @property
    def url(self) -> str | None:
        """The URL of the endpoint; None outside Cloud Shell."""
        return self.environment.endpoint.url if self.environment.endpoint else None

    def _connect(self) -> None:
        endpoint = self.environment.endpoint
        self._send = make_send(endpoint, self._options) if endpoint else None
        self._suspended: tuple[float, float] | None = None

    def reset(self) -> None:
        """Begin anew, in the environment as it is now."""
        super().reset()
        self.environment = read_environment(os.environ, self._endpoint)
        self._connect()

    def open(self) -> None:
        """Open the user's transport. The default one keeps nothing open."""
        if self._transport is not None:
            self._transport.__enter__()

    def close(self) -> None:
        """Close the user's transport."""
        if self._transport is not None:
            self._transport.__exit__()

    def claim(self, request: TokenRequest) -> CachedToken | Failure | InFlight:
        """The token, the failure, or an acquisition to wait for."""
        if not request.claims and (cached := self.cache.fresh(request.key)) is not None:
            return cached
        resource = self._resource_for(request)
        if isinstance(resource, Failure):
            return resource
        may_wait = not acquisition.is_asking()
        return self.cache.claim(resource, lambda: self._acquire(resource), resource, may_wait=may_wait)

    def granted(self, request: TokenRequest, outcome: CachedToken | Failure) -> CachedToken:
        """The token, if it is for the tenant asked for; raises the exception for a failure."""
        cached = super().granted(request, outcome)
        resource = protocol.scope_to_resource(request.scopes)
        if (wrong := self._wrong_tenant(request, resource, cached.token)) is not None:
            return super().granted(request, wrong)
        self.cache.remember(request.key, resource, cached)
        return cached

    def ask(self, request: TokenRequest) -> Token | Failure:
        """Acquire a token on this thread, which is that of another acquisition."""
        resource = self._resource_for(request)
        outcome = self._acquire(resource) if isinstance(resource, str) else resource
        if isinstance(outcome, Failure) or not isinstance(resource, str):
            return outcome
        return self._wrong_tenant(request, resource, outcome) or outcome

    def _resource_for(self, request: TokenRequest) -> str | Failure:
        """The resource to ask for, or why the endpoint need not be asked."""
        if not request.scopes:
            raise ValueError("get_token requires a scope.")
        if self._send is None:
            # Before any look at the scopes: in a chain outside Cloud Shell they are another credential's business.
            return failures.not_in_cloud_shell(self.environment.refusal, self.environment.other_host)
        resource = protocol.scope_to_resource(request.scopes)
        if protocol.is_bare_permission(resource):
            return failures.permission_without_resource(resource)
        if request.claims:
            return failures.claims_not_supported(resource, request.claims)
        if request.options.get("pop"):
            return failures.pop_not_supported(resource)
        return resource

    def _wrong_tenant(self, request: TokenRequest, resource: str, token: Token) -> Failure | None:
        return protocol.wrong_tenant(resource, token, request.tenant_id, self.environment.tenant_id)

    def _acquire(self, resource: str) -> Token | Failure:
        """Ask the endpoint. Runs in the thread of an acquisition."""
        now = acquisition.clock.monotonic()
        if self._suspended is not None and now < self._suspended[1]:
            since, until = self._suspended
            return failures.circuit_open(resource, now - since, until - now)
        assert self._send is not None
        assert self.environment.endpoint is not None
        outcome = acquisition.acquire(resource, self._send, self._policy, port=self.environment.endpoint.port)
        if isinstance(outcome, Token):
            _LOGGER.info("Got a token for %s from Cloud Shell, it expires at %d", resource, outcome.expires_on)
            if outcome.warning:
                _LOGGER.warning("%s", outcome.warning)
        elif outcome.kind == "timeout":
            now = acquisition.clock.monotonic()
            self._suspended = (now, now + CIRCUIT_BREAKER_SECONDS)
        return outcome


def _number(options: dict[str, Any], name: str, default: float) -> float:
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a non-negative number, not {value!r}.")
    return value


def _seconds(options: dict[str, Any], name: str, default: float) -> float:
    value = _number(options, name, default)
    if value == 0:
        raise ValueError(f"{name} must be a number of seconds greater than 0, not {value!r}.")
    return min(value, acquisition.MAX_TIMEOUT)


def _retries(options: dict[str, Any], name: str) -> int | None:
    return int(_number(options, name, 0)) if options.get(name) is not None else None
