"""Cloud Shell's endpoint as a source of tokens: its configuration, what it is asked, and what the answer is for."""

from __future__ import annotations

import logging
import os
from inspect import iscoroutinefunction
from typing import Any

from .._endpoint import acquisition, advice, clock, failures
from .._endpoint.acquisition import RetryPolicy
from .._endpoint.environment import Environment, is_led_to_a_broker
from .._endpoint.failures import TRANSIENT, Failure
from .._endpoint.scopes import TokenRequest
from .._endpoint.text import duration
from .._endpoint.token import Token, wrong_tenant
from .._tokens.cache import CachedToken, TokenCache
from .._tokens.in_flight import InFlight
from .credential import Credential, SyncCredential
from .identities import known_at
from .pipeline import make_send

_LOGGER = logging.getLogger(__name__)

CIRCUIT_BREAKER_SECONDS = 30
"""Seconds after a timed-out request in which the endpoint is not asked again.

Without, each resource that a chain is asked for waits out the timeout of an endpoint that hangs before az is asked.
"""


_NOT_HERE = {
    "client_id": "Cloud Shell has no managed identity, its tokens are the signed-in user's. Leave it out.",
    "tenant_id": "Cloud Shell is signed in to one tenant. Pass tenant_id to get_token, or switch the directory in the "
    "portal.",
}
"""Keywords of azure-identity's credentials that would change nothing here, and what to do instead."""


class FromCloudShell(Credential):
    """Asks Cloud Shell's endpoint: what the synchronous and the asynchronous ``CloudShellCredential`` have in common.

    :keyword endpoint: its URL; None takes what the environment says.
    :raises ValueError: for an option that cannot be used.
    """

    def __getstate__(self) -> dict[str, Any]:
        # What the environment says here travels too, but for a broker's secret.
        travels = {} if is_led_to_a_broker(os.environ) else {"endpoint": self.endpoint}
        state = super().__getstate__()
        return {**state, "options": {**state["options"], **travels}}

    def _reset(self) -> None:
        # None counts as absent, as in azure-identity.
        options = {name: value for name, value in self._options.items() if value is not None}
        self._environment = Environment(os.environ, options.get("endpoint"))
        _check(options)
        names = ("timeout", "retry_total", "retry_backoff_factor")
        # A broker has asked again itself.
        self._is_led = "endpoint" not in options and is_led_to_a_broker(os.environ)
        self._reader = advice.LED if self._is_led and self._environment.endpoint else advice.CREDENTIAL
        preset = {"retry_total": 0} if self._is_led else {}
        self._policy = RetryPolicy(**{**preset, **{name: options[name] for name in names if name in options}})
        # The default transport keeps nothing open.
        self._transports = [options["transport"]] if "transport" in options else []
        endpoint = self._environment.endpoint
        self._send = make_send(endpoint, options) if endpoint else None
        self._timed_out_at = float("-inf")
        self._cache = TokenCache(self._policy.timeout)

    @property
    def endpoint(self) -> str | None:
        """The URL that tokens are requested from; None outside Cloud Shell."""
        return self._environment.endpoint.url if self._environment.endpoint else None

    def _begin(self, request: TokenRequest) -> CachedToken | Failure | InFlight:
        """A token, a failure, or the acquisition to wait for."""
        if (refusal := self._refusal(request)) is not None:
            return refusal
        return self._cache.begin(request.resource, request, lambda: self._acquire_for(request))

    def _token_for(self, request: TokenRequest) -> Token | Failure:
        """What a request gets, acquired on this thread, which is that of another acquisition."""
        outcome = self._refusal(request) or self._acquire_for(request)
        return outcome if isinstance(outcome, Failure) else self._wrong_tenant(request, outcome) or outcome

    def _judge(self, request: TokenRequest, cause: Failure, token: Token) -> Failure | None:
        """Whether another credential's token may stand in for one of Cloud Shell's.

        :param cause: why Cloud Shell has none.
        :return: why not.
        """
        endpoint = self._environment.endpoint
        if endpoint is None:
            return None
        return known_at(endpoint.port).judge(request, cause, token, self._environment.identity)

    def _refusal(self, request: TokenRequest) -> Failure | None:
        """Why the endpoint need not be asked."""
        if self._send is None:
            # Before any look at the scope: in a chain outside Cloud Shell they are another credential's business.
            return failures.not_in_cloud_shell(self._environment.refusal, self._environment.other_host)
        if request.mistake:
            raise ValueError(request.mistake)
        resource = request.resource
        if request.is_for_several:
            return failures.several_resources(resource)
        if request.claims:
            return failures.claims_not_supported(resource, request.claims)
        return failures.pop_not_supported(resource) if request.options.get("pop") else None

    def _wrong_tenant(self, request: TokenRequest, token: Token) -> Failure | None:
        return wrong_tenant(request.resource, token, request.tenant_id, self._environment.tenant_id)

    def _acquire_for(self, request: TokenRequest) -> Token | Failure:
        """Ask the endpoint. Runs in the thread of an acquisition."""
        resource = request.resource
        ago = clock.current.monotonic() - self._timed_out_at
        if ago < CIRCUIT_BREAKER_SECONDS:
            rest = max(1, round(CIRCUIT_BREAKER_SECONDS - ago))
            return self._told_here(failures.circuit_open(resource, round(ago), rest))
        endpoint = self._environment.endpoint
        assert self._send is not None
        assert endpoint is not None
        outcome = acquisition.ask_endpoint(resource, self._send, self._policy, endpoint)
        known = known_at(endpoint.port)
        if isinstance(outcome, Token):
            _LOGGER.info("Got a token for %s from Cloud Shell, it expires at %d", resource, outcome.expires_on)
            if outcome.warning:
                _LOGGER.warning("%s", outcome.warning)
            if not self._is_led:
                # A broker answers as several users, and says so itself.
                known.note(resource, outcome.identity)
            return outcome
        if outcome.kind == "not_cloud_shell" and known.has_issued:
            # Nobody listens at the address that no variable names. But somebody did: it is Cloud Shell, and fails.
            outcome = failures.unreachable(resource, f"nobody listens at {endpoint.url} any more")
        if outcome.kind == "timeout":
            self._timed_out_at = clock.current.monotonic()
            outcome.details["after"] = duration(CIRCUIT_BREAKER_SECONDS)
        return self._told_here(outcome)

    def _told_here(self, failure: Failure) -> Failure:
        """A failure with what is known here."""
        if self._is_led:
            return advice.as_the_broker_says(failure)
        assert self._environment.endpoint is not None
        user = known_at(self._environment.endpoint.port).user
        if user is not None and user.name and failure.kind in TRANSIENT:
            # Another user's token would be refused.
            failure.details["as_user"] = user.name
        return failure


def _check(options: dict[str, Any]) -> None:
    """Check the options that the pipeline takes as they are.

    :raises ValueError: for one that cannot be used.
    """
    for name, instead in _NOT_HERE.items():
        if options.get(name):
            raise ValueError(f"CloudShellCredential takes no {name}: {instead}")
    for name in ("timeout", "connection_timeout", "read_timeout", "retry_total", "retry_backoff_factor"):
        value = options.get(name, 1)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")
        is_timeout = name.endswith("timeout")
        if not is_number or (is_timeout and value == 0):
            raise ValueError(f"{name} must be a number {'above 0' if is_timeout else 'of 0 or more'}, not {value!r}.")
    if iscoroutinefunction(getattr(options.get("transport"), "send", None)):
        raise ValueError("transport must be a synchronous one of azure-core's, for the asynchronous credential too.")


class CloudShellCredential(FromCloudShell, SyncCredential):
    """Authenticates as the user who is signed in to Azure Cloud Shell.

    For example:

        from azure.mgmt.compute import ComputeManagementClient
        from azure_cloudshell_credential import CloudShellCredential

        client = ComputeManagementClient(CloudShellCredential(), subscription_id)

    Cloud Shell issues its user's tokens at a local endpoint; this is that endpoint as a credential for any Azure SDK
    client. Outside Cloud Shell, and whenever the endpoint cannot help, it raises ``CredentialUnavailableError``, so
    that a ``ChainedTokenCredential`` continues with its next credential.

    The environment is read when the credential is constructed; constructing it raises nothing because of the
    environment, opens no connection and imports nothing heavy. An instance can be shared by threads, survives ``fork``
    and can be pickled (its configuration travels, tokens do not). Tokens are cached in memory. Each token request runs
    in a daemon thread of its own: cancelling one caller does not affect the others.

    :keyword str endpoint: URL of the token endpoint. Its host must be a loopback host. Default: what the environment
        says.
    :keyword float timeout: overall deadline in seconds, retries included; more than a day counts as a day. Default 30.
    :keyword int retry_total: maximum retries after a transient failure. Default 3, and after a timeout of the portal as
        many as ``timeout`` allows. Under ``azure-cloudshell run`` 0: its broker retries.
    :keyword float retry_backoff_factor: seconds before the first retry, doubled for each one after it; 0 retries at
        once. Default 0.4.
    :keyword float connection_timeout: seconds for connecting, within ``timeout``. Default: ``timeout``.
    :keyword float read_timeout: seconds to wait for a reply, within ``timeout``. Default: ``timeout``.
    :keyword transport: carries every request, and is entered and closed with the credential. Default: the package's
        own, which sends to this machine only.
    :paramtype transport: azure.core.pipeline.transport.HttpTransport
    :keyword str user_agent: put in front of the ``User-Agent``.
    :keyword bool logging_enable: log requests and replies at DEBUG level. The body of a reply, which holds the token,
        is not logged. Default False.
    :keyword raw_request_hook: called with each request, a ``PipelineRequest``.
    :paramtype raw_request_hook: Callable[[PipelineRequest], None]
    :keyword raw_response_hook: called with each reply, a ``PipelineResponse``.
    :paramtype raw_response_hook: Callable[[PipelineResponse], None]
    :raises ValueError: for an ``endpoint`` that is not a loopback URL, a ``timeout`` that is not a number above 0, a
        ``retry_…`` that is not a number, an asynchronous transport, or a ``client_id`` or ``tenant_id``.
    """

    __module__ = "azure_cloudshell_credential"

    def __init__(self, *, endpoint: str | None = None, **kwargs: Any) -> None:
        super().__init__(endpoint=endpoint, **kwargs)
