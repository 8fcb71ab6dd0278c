"""The asynchronous credentials. They differ from the synchronous ones in how they wait, and in nothing else."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from typing_extensions import Self

from .._azure import credential
from .._azure.cloud_shell import FromCloudShell
from .._azure.credential import Credential, as_info, token_or_raise
from .._azure.default_chain import Chain
from .._endpoint.failures import Failure
from .._endpoint.scopes import TokenRequest
from .._tokens.cache import CachedToken
from .._tokens.in_flight import InFlight
from ._waiting import wait

_LOADING_SECONDS = 30.0


class AsyncCredential(Credential):
    """A credential that waits for its tokens on an event loop, asyncio's or trio's.

    One instance can serve several event loops and threads. Cancelling one caller does not affect the others.
    """

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: Any,
    ) -> AccessToken:
        """Get an access token for a scope, as the synchronous credential's ``get_token``.

        :param str scopes: one scope, or several of one resource.
        :keyword str claims: a claims challenge.
        :keyword str tenant_id: the tenant the token must be for.
        :keyword bool enable_cae: whether the token may be subject to Continuous Access Evaluation. Default False.
        :return: the token and its expiry in Unix time.
        :rtype: azure.core.credentials.AccessToken
        """
        is_plain = not (claims or tenant_id or enable_cae or kwargs)
        if is_plain and (cached := self._cache.fresh(scopes)) is not None:
            return cached.access_token
        options = {"claims": claims, "tenant_id": tenant_id, "enable_cae": enable_cae, **kwargs}
        return (await self._token(TokenRequest(scopes, options))).access_token

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """Get an access token for a scope, as the synchronous credential's ``get_token_info``.

        :param str scopes: one scope, or several of one resource.
        :keyword options: as the keyword arguments of ``get_token``.
        :paramtype options: azure.core.credentials.TokenRequestOptions
        :return: the token, its expiry and its refresh time, in Unix time.
        :rtype: azure.core.credentials.AccessTokenInfo
        """
        cached = None if options else self._cache.fresh(scopes)
        return as_info(cached or await self._token(TokenRequest(scopes, options or {})))

    async def close(self) -> None:
        """Close the transport of each credential, as the synchronous credential's ``close``."""
        self._close()

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(self, exc_type: Any = None, exc_value: Any = None, traceback: Any = None) -> None:
        self._close(exc_type, exc_value, traceback)

    async def _token(self, request: TokenRequest) -> CachedToken:
        """The token that a request gets; its failure is raised."""
        outcome = await self._outcome(request)
        if isinstance(outcome, Failure) and not credential.are_errors_loaded():
            # Not here: it would hold up the event loop for some 100 ms.
            loading = InFlight(credential.load_errors, _LOADING_SECONDS)
            loading.start()
            with suppress(TimeoutError):
                await wait(loading)
        return token_or_raise(outcome)

    async def _outcome(self, request: TokenRequest) -> CachedToken | Failure:
        """What a request gets, waited for on this event loop."""
        outcome = self._begin(request)
        if isinstance(outcome, InFlight):
            outcome = await wait(outcome)
        if request.tenant_id and isinstance(outcome, CachedToken):
            return self._wrong_tenant(request, outcome.token) or outcome
        return outcome


class CloudShellCredential(FromCloudShell, AsyncCredential):
    """Authenticates as the user who is signed in to Azure Cloud Shell, for asyncio and trio.

    Takes the keyword arguments of the synchronous ``CloudShellCredential`` and does the same in every situation.
    ``transport`` too is a synchronous one: every token request runs in a thread of its own.

    :keyword str endpoint: URL of the token endpoint. Its host must be a loopback host. Default: what the environment
        says.
    :keyword float timeout: overall deadline in seconds, retries included. Default 30.
    :keyword int retry_total: maximum retries after a transient failure. Default 3, and after a timeout of the portal as
        many as ``timeout`` allows.
    :keyword float retry_backoff_factor: seconds before the first retry, doubled for each one after it. Default 0.4.
    :keyword float connection_timeout: seconds for connecting, within ``timeout``. Default: ``timeout``.
    :keyword float read_timeout: seconds to wait for a reply, within ``timeout``. Default: ``timeout``.
    :keyword transport: carries every request. Default: the package's own, which sends to this machine only.
    :paramtype transport: azure.core.pipeline.transport.HttpTransport
    :keyword str user_agent: put in front of the ``User-Agent``.
    :keyword bool logging_enable: log requests and replies at DEBUG level, without the token. Default False.
    :keyword raw_request_hook: called with each request, a ``PipelineRequest``.
    :paramtype raw_request_hook: Callable[[PipelineRequest], None]
    :keyword raw_response_hook: called with each reply, a ``PipelineResponse``.
    :paramtype raw_response_hook: Callable[[PipelineResponse], None]
    :raises ValueError: for an argument that cannot be used, such as an asynchronous transport.
    """

    __module__ = "azure_cloudshell_credential.aio"

    def __init__(self, *, endpoint: str | None = None, **kwargs: Any) -> None:
        super().__init__(endpoint=endpoint, **kwargs)


class DefaultCloudShellCredential(Chain, AsyncCredential):
    """A ``DefaultAzureCredential`` that works in Cloud Shell, for asyncio and trio.

    Takes the keyword arguments of the synchronous ``DefaultCloudShellCredential`` and does the same. Its steps are
    synchronous credentials, which run in a thread of their own for each token that has to be acquired.

    :keyword bool exclude_cloud_shell_credential: leave out Cloud Shell. Default: whether ``AZURE_TOKEN_CREDENTIALS``
        leaves it out.
    :keyword bool exclude_managed_identity_credential: leave out the managed identity, and keep Cloud Shell. Likewise
        the others of ``DefaultAzureCredential``, such as ``exclude_cli_credential``.
    :keyword str managed_identity_client_id: the client ID of a user-assigned managed identity.
    :keyword str workload_identity_client_id: the client ID of a workload identity.
    :keyword additionally_allowed_tenants: tenants other than their own for which credentials may acquire tokens.
    :paramtype additionally_allowed_tenants: list[str]
    :keyword str authority: the host of Microsoft Entra ID. Default: ``AZURE_AUTHORITY_HOST``, or the public cloud's.
    :keyword int process_timeout: seconds for az, azd and PowerShell, each. Default 30.
    :keyword str endpoint: URL of Cloud Shell's token endpoint, and the other keywords of ``CloudShellCredential``.
    :keyword bool logging_enable: log Cloud Shell's requests and replies, and those of no other credential.
        Default False.
    :raises ValueError: if no step is left, or for a value that one of the steps refuses.
    """

    __module__ = "azure_cloudshell_credential.aio"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
