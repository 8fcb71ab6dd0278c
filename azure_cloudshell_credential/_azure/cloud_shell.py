"""Cloud Shell's endpoint as a source of tokens: its configuration, what it is asked, and what the answer is for."""

from __future__ import annotations

import logging
import os
from inspect import iscoroutinefunction
from typing import Any

from .._endpoint import acquisition, failures, protocol
from .._endpoint.acquisition import RetryPolicy
from .._endpoint.environment import Environment
from .._endpoint.failures import Failure
from .._endpoint.protocol import Token
from .._tokens.cache import CachedToken, TokenCache
from .._tokens.in_flight import InFlight
from .pipeline import make_send
from .sources import Credential, TokenRequest, TokenSource

_LOGGER = logging.getLogger(__name__)

CIRCUIT_BREAKER_SECONDS = 30
"""Seconds after a timed-out request in which the endpoint is not asked again."""


class CloudShellSource(TokenSource):
    """Asks the endpoint that the environment, or the user, names.

    :param endpoint: its URL; None takes what the environment says.
    :param options: the credential's keyword arguments.
    :raises ValueError: for an option that cannot be used.
    """

    def __reduce__(self) -> tuple[type[TokenSource], tuple[Any, ...]]:
        # What the environment says here travels too.
        return type(self), (self.url, self._arguments[1])

    def reset(self) -> None:
        """Begin anew, in the environment as it is now."""
        url, options = self._arguments
        self.environment = Environment(os.environ, url)
        _check(options)
        names = ("timeout", "retry_total", "retry_backoff_factor")
        self._policy = RetryPolicy(**{name: options[name] for name in names if name in options})
        self._transport: Any = options.get("transport")
        endpoint = self.environment.endpoint
        self._send = make_send(endpoint, options) if endpoint else None
        self._timed_out_at = float("-inf")
        self.cache = TokenCache(self._policy.timeout)

    @property
    def url(self) -> str | None:
        """The URL of the endpoint; None outside Cloud Shell."""
        return self.environment.endpoint.url if self.environment.endpoint else None

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
        resource = self._resource_for(request)
        if isinstance(resource, Failure):
            return resource
        return self.cache.claim(resource, lambda: self._acquire(resource), resource)

    def granted(self, request: TokenRequest, outcome: CachedToken | Failure) -> CachedToken:
        """The token, if it is for the tenant asked for; raises the exception for a failure."""
        cached = super().granted(request, outcome)
        if (wrong := self._wrong_tenant(request, cached.token)) is not None:
            return super().granted(request, wrong)
        self.cache.remember(request.key, protocol.scope_to_resource(request.scopes), cached)
        return cached

    def ask(self, request: TokenRequest) -> Token | Failure:
        """Acquire a token on this thread, which is that of another acquisition."""
        resource = self._resource_for(request)
        outcome = self._acquire(resource) if isinstance(resource, str) else resource
        return outcome if isinstance(outcome, Failure) else self._wrong_tenant(request, outcome) or outcome

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
        return failures.pop_not_supported(resource) if request.options.get("pop") else resource

    def _wrong_tenant(self, request: TokenRequest, token: Token) -> Failure | None:
        resource = protocol.scope_to_resource(request.scopes)
        return protocol.wrong_tenant(resource, token, request.tenant_id, self.environment.tenant_id)

    def _acquire(self, resource: str) -> Token | Failure:
        """Ask the endpoint. Runs in the thread of an acquisition."""
        ago = acquisition.clock.monotonic() - self._timed_out_at
        if ago < CIRCUIT_BREAKER_SECONDS:
            return failures.circuit_open(resource, ago, CIRCUIT_BREAKER_SECONDS - ago)
        assert self._send is not None
        assert self.environment.endpoint is not None
        outcome = acquisition.acquire(resource, self._send, self._policy, port=self.environment.endpoint.port)
        if isinstance(outcome, Token):
            _LOGGER.info("Got a token for %s from Cloud Shell, it expires at %d", resource, outcome.expires_on)
            if outcome.warning:
                _LOGGER.warning("%s", outcome.warning)
        elif outcome.kind == "timeout":
            self._timed_out_at = acquisition.clock.monotonic()
        return outcome


class FromCloudShell(Credential):
    """What the synchronous and the asynchronous ``CloudShellCredential`` have in common."""

    _source: CloudShellSource

    def __init__(self, *, endpoint: str | None = None, **kwargs: Any) -> None:
        self._source = CloudShellSource(endpoint, kwargs)

    @property
    def endpoint(self) -> str | None:
        """The URL that tokens are requested from; None outside Cloud Shell."""
        return self._source.url


def _check(options: dict[str, Any]) -> None:
    """Check the options that the pipeline takes as they are.

    :raises ValueError: for one that cannot be used.
    """
    for name in ("timeout", "connection_timeout", "read_timeout", "retry_total", "retry_backoff_factor"):
        value = options.get(name, 1)
        if name == "retry_total" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be a non-negative number, not {value!r}.")
        if value == 0 and name.endswith("timeout"):
            raise ValueError(f"{name} must be a number of seconds greater than 0, not {value!r}.")
    if iscoroutinefunction(getattr(options.get("transport"), "send", None)):
        raise ValueError(
            "transport must be one of azure-core's synchronous transports, such as RequestsTransport, also for the "
            "asynchronous credential: every token request runs in a thread of its own."
        )
