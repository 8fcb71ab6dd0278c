"""``CloudShellCredential``, and what it has in common with its asynchronous version.

The two classes differ in how they wait for a token, and in nothing else: what may be answered at once and what has to
be acquired is decided in ``CredentialBase``.
"""

from __future__ import annotations

import logging
import os
from inspect import iscoroutinefunction
from typing import Any, NoReturn
from weakref import WeakValueDictionary

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions

from .._endpoint import acquisition, failures, protocol
from .._endpoint.acquisition import RetryPolicy, Send
from .._endpoint.environment import Endpoint, read_environment
from .._endpoint.failures import Failure
from .._endpoint.protocol import Token
from .._tokens.cache import CachedToken, TokenCache
from .._tokens.in_flight import InFlight

_LOGGER = logging.getLogger(__name__)


class CredentialBase:
    """Configuration, cache and decisions of a Cloud Shell credential."""

    def __init__(self, *, endpoint: str | None = None, **kwargs: Any) -> None:
        self._environment = read_environment(os.environ, endpoint)
        self._configure(kwargs)
        if endpoint is None:
            _of_the_environment[id(self)] = self

    def _configure(self, options: dict[str, Any]) -> None:
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
        self._cache = TokenCache(self._policy.timeout)
        self._send: Send | None = None

    @property
    def endpoint(self) -> str | None:
        """The URL that tokens are requested from; None outside Cloud Shell."""
        return self._environment.endpoint.url if self._environment.endpoint else None

    def __getstate__(self) -> dict[str, Any]:
        # The configuration travels; tokens, acquisitions and connections never do.
        return {"environment": self._environment, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._environment = state["environment"]
        self._configure(state["options"])

    def _claim(
        self, scopes: tuple[str, ...], claims: str | None, tenant_id: str | None, pop: object
    ) -> CachedToken | Failure | InFlight:
        """What a caller gets: a token, why there is none, or an acquisition to wait for."""
        if not scopes:
            raise ValueError("get_token requires a scope.")
        if self._environment.endpoint is None:
            # Before any look at the scopes: in a chain outside Cloud Shell they are another credential's business.
            return failures.not_in_cloud_shell(self._environment.refusal, self._environment.other_host)
        resource = protocol.scope_to_resource(scopes)
        if protocol.is_bare_permission(resource):
            return failures.permission_without_resource(resource)
        if claims:
            return failures.claims_not_supported(resource, claims)
        if pop:
            return failures.pop_not_supported(resource)
        endpoint = self._environment.endpoint
        send = self._send or self._make_send(endpoint)
        may_wait = not acquisition.is_asking()
        return self._cache.claim(resource, lambda: self._acquire(resource, send, endpoint.port), may_wait=may_wait)

    def _make_send(self, endpoint: Endpoint) -> Send:
        # Not at the top, so that importing the credential costs a script next to nothing; and not in the thread of the
        # acquisition: a process that forks while another thread imports leaves the child with an import lock that
        # nobody will release.
        from .pipeline import make_send

        self._send = make_send(endpoint, self._options)
        return self._send

    def _acquire(self, resource: str, send: Send, port: int) -> Token | Failure:
        """Ask the endpoint. Runs in the thread of the acquisition."""
        outcome = acquisition.acquire(resource, send, self._policy, port)
        if isinstance(outcome, Token):
            _LOGGER.info("Got a token for %s from Cloud Shell, it expires at %d", resource, outcome.expires_on)
            if outcome.warning:
                _LOGGER.warning("%s", outcome.warning)
        return outcome

    def _given(self, outcome: CachedToken | Failure, scopes: tuple[str, ...], tenant_id: str | None) -> CachedToken:
        """The token, if it is for the tenant asked for; else the exception that the failure is for the caller."""
        cached = token_or_fail(outcome)
        resource = protocol.scope_to_resource(scopes)
        wrong = protocol.wrong_tenant(resource, cached.token, tenant_id, self._environment.tenant_id)
        if wrong is not None:
            fail(wrong)
        self._cache.remember(scopes, resource)
        return cached


_of_the_environment: WeakValueDictionary[int, CredentialBase] = WeakValueDictionary()


def read_environment_again() -> None:
    """Let every credential that was given no endpoint read the environment as it is now.

    The emulator's way to reach credentials that a test did not make itself.
    """
    for reference in _of_the_environment.valuerefs():
        if (credential := reference()) is not None:
            credential._environment = read_environment(os.environ)
            credential._send = None


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


NO_OPTIONS = (None, None, None)


def unpack_options(options: TokenRequestOptions) -> tuple[str | None, str | None, object]:
    """The claims, tenant and proof of possession requested. None counts as absent: Key Vault sends it."""
    given: dict[str, Any] = dict(options)
    return given.get("claims"), given.get("tenant_id"), given.get("pop")


def fail(failure: Failure) -> NoReturn:
    """Raise the exception that a failure is for the caller."""
    from .errors import as_exception

    _LOGGER.debug("No token from Cloud Shell: %s", failure.message)
    raise as_exception(failure)


def token_or_fail(outcome: CachedToken | Failure) -> CachedToken:
    """The token; raises the exception that a failure is for the caller."""
    return fail(outcome) if isinstance(outcome, Failure) else outcome


def as_info(cached: CachedToken) -> AccessTokenInfo:
    """The token as ``get_token_info`` returns it. A new object: callers may change theirs."""
    token = cached.token
    return AccessTokenInfo(token.value, token.expires_on, token_type=token.token_type, refresh_on=token.refresh_on)


class CloudShellCredential(CredentialBase):
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
    in a daemon thread of its own: a caller who goes away takes it from nobody else.

    :keyword str endpoint: URL of the token endpoint. Its host must be a loopback host. Default: what the environment
        says.
    :keyword float timeout: overall deadline in seconds, retries included; more than a day counts as a day. Default 30.
    :keyword int retry_total: maximum retries after a transient failure. Default 3, and after a timeout of the portal as
        many as ``timeout`` allows.
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
        ``retry_…`` that is not a number, or an asynchronous transport.
    """

    __module__ = "azure_cloudshell_credential"

    def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: Any,
    ) -> AccessToken:
        """Get an access token for a scope. Azure SDK clients call this method.

        :param str scopes: one scope, such as ``https://management.azure.com/.default``.
        :keyword str claims: a claims challenge. Cloud Shell cannot satisfy any.
        :keyword str tenant_id: the tenant the token must be for: the one that Cloud Shell is signed in to, or none.
        :keyword bool enable_cae: ignored; not supported by the endpoint.
        :keyword pop: a proof-of-possession request. Cloud Shell cannot satisfy any.
        :return: the token and its expiry in Unix time.
        :rtype: azure.core.credentials.AccessToken
        :raises azure.identity.CredentialUnavailableError: if Cloud Shell cannot issue the token. The message says
            why and what to do; ``AudienceNotSupportedError`` if the resource is not one of those it supports.
        :raises ValueError: unless there is exactly one valid scope.
        """
        if not claims and not kwargs:
            cached = self._cache.fresh(scopes, tenant_id)
            if cached is not None:
                return cached.access_token
        return self._token(scopes, claims, tenant_id, kwargs.get("pop")).access_token

    def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """Get an access token for a scope, with its refresh time. Azure SDK clients call this method.

        :param str scopes: one scope, such as ``https://management.azure.com/.default``.
        :keyword options: ``claims``, ``tenant_id``, ``enable_cae`` and ``pop`` as in ``get_token``; None counts as
            absent.
        :paramtype options: azure.core.credentials.TokenRequestOptions
        :return: the token, its expiry and its refresh time, in Unix time.
        :rtype: azure.core.credentials.AccessTokenInfo
        :raises azure.identity.CredentialUnavailableError: as ``get_token``.
        :raises ValueError: unless there is exactly one valid scope.
        """
        if not options and (cached := self._cache.fresh(scopes)) is not None:
            # as_info(), without the time that the call takes.
            token = cached.token
            return AccessTokenInfo(
                token.value, token.expires_on, token_type=token.token_type, refresh_on=token.refresh_on
            )
        claims, tenant_id, pop = unpack_options(options) if options else NO_OPTIONS
        cached = None if claims or pop else self._cache.fresh(scopes, tenant_id)
        return as_info(cached or self._token(scopes, claims, tenant_id, pop))

    def close(self) -> None:
        """Close the transport.

        The default transport keeps nothing open, so the credential can be used again; a transport given as a keyword
        decides for itself, and azure-core's refuse with a ``ValueError``.
        """
        self.__exit__()

    def __enter__(self) -> CloudShellCredential:
        if self._transport is not None:
            self._transport.__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        if self._transport is not None:
            self._transport.__exit__(*args)

    def _token(self, scopes: tuple[str, ...], claims: str | None, tenant_id: str | None, pop: object) -> CachedToken:
        outcome = self._claim(scopes, claims, tenant_id, pop)
        if isinstance(outcome, InFlight):
            outcome = outcome.wait()
        return self._given(outcome, scopes, tenant_id)
