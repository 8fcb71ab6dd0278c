"""The asynchronous ``CloudShellCredential``: what the synchronous one decides, waited for on an event loop."""

from __future__ import annotations

from typing import Any

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions

from .._azure.credential import NO_OPTIONS, CredentialBase, as_info, unpack_options
from .._tokens.cache import CachedToken
from .._tokens.in_flight import InFlight
from ._waiting import wait


class CloudShellCredential(CredentialBase):
    """Authenticates as the user who is signed in to Azure Cloud Shell, for asyncio and trio.

    The asynchronous version of ``CloudShellCredential``: it accepts the same keyword
    arguments and does the same in every situation. One instance can serve several event loops and threads. Cancelling a
    task that waits for a token does not take it from the others that wait for it.

    :keyword str endpoint: URL of the token endpoint. Its host must be a loopback host. Default: what the environment
        says.
    :keyword float timeout: overall deadline in seconds, retries included; more than a day counts as a day. Default 30.
    :keyword int retry_total: maximum retries after a transient failure. Default 3, and after a timeout of the portal as
        many as ``timeout`` allows.
    :keyword float retry_backoff_factor: seconds before the first retry, doubled for each one after it; 0 retries at
        once. Default 0.4.
    :keyword float connection_timeout: seconds for connecting, within ``timeout``. Default: ``timeout``.
    :keyword float read_timeout: seconds to wait for a reply, within ``timeout``. Default: ``timeout``.
    :keyword transport: a *synchronous* azure-core transport, since every token request runs in a thread of its own. It
        is entered and closed with the credential. Default: the package's own, which sends to this machine only.
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

    __module__ = "azure_cloudshell_credential.aio"

    async def get_token(
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
        return (await self._token(scopes, claims, tenant_id, kwargs.get("pop"))).access_token

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
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
        claims, tenant_id, pop = unpack_options(options) if options else NO_OPTIONS
        cached = None if claims or pop else self._cache.fresh(scopes, tenant_id)
        return as_info(cached or await self._token(scopes, claims, tenant_id, pop))

    async def close(self) -> None:
        """Close the transport.

        The default transport keeps nothing open, so the credential can be used again; a transport given as a keyword
        decides for itself, and azure-core's refuse with a ``ValueError``.
        """
        await self.__aexit__()

    async def __aenter__(self) -> CloudShellCredential:
        if self._transport is not None:
            self._transport.__enter__()
        return self

    async def __aexit__(self, *args: Any) -> None:
        if self._transport is not None:
            self._transport.__exit__(*args)

    async def _token(
        self, scopes: tuple[str, ...], claims: str | None, tenant_id: str | None, pop: object
    ) -> CachedToken:
        outcome = self._claim(scopes, claims, tenant_id, pop)
        if isinstance(outcome, InFlight):
            outcome = await wait(outcome)
        return self._given(outcome, scopes, tenant_id)
