"""``CloudShellCredential``, and how a synchronous credential waits for its token."""

from __future__ import annotations

from typing import Any

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from typing_extensions import Self

from .cloud_shell import FromCloudShell
from .sources import Credential, TokenRequest, as_info


class SyncCredential(Credential):
    """A credential that waits for its tokens on the caller's thread."""

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
        :keyword str claims: a claims challenge. Cloud Shell cannot satisfy any; another credential of a chain may.
        :keyword str tenant_id: the tenant the token must be for. Cloud Shell is signed in to one tenant.
        :keyword bool enable_cae: whether the token may be subject to Continuous Access Evaluation. Cloud Shell's
            endpoint does not support it. Default False.
        :keyword pop: a proof-of-possession request. Cloud Shell cannot satisfy any.
        :return: the token and its expiry in Unix time.
        :rtype: azure.core.credentials.AccessToken
        :raises azure.identity.CredentialUnavailableError: if Cloud Shell cannot issue the token. The message says
            why and what to do; ``AudienceNotSupportedError`` if the resource is not one of those it supports.
        :raises azure.core.exceptions.ClientAuthenticationError: if no credential of a
            ``DefaultCloudShellCredential`` has a token.
        :raises ValueError: unless there is exactly one valid scope.
        """
        if not (claims or tenant_id or enable_cae or kwargs):
            cached = self._source.cache.fresh(scopes)
            if cached is not None:
                return cached.access_token
        options = {"claims": claims, "tenant_id": tenant_id, "enable_cae": enable_cae, **kwargs}
        return self._source.token(TokenRequest(scopes, options)).access_token

    def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """Get an access token for a scope, with its refresh time. Azure SDK clients call this method.

        :param str scopes: one scope, such as ``https://management.azure.com/.default``.
        :keyword options: ``claims``, ``tenant_id``, ``enable_cae`` and ``pop`` as in ``get_token``; None counts as
            absent.
        :paramtype options: azure.core.credentials.TokenRequestOptions
        :return: the token, its expiry and its refresh time, in Unix time.
        :rtype: azure.core.credentials.AccessTokenInfo
        :raises azure.core.exceptions.ClientAuthenticationError: as ``get_token``.
        :raises ValueError: unless there is exactly one valid scope.
        """
        if not options and (cached := self._source.cache.fresh(scopes)) is not None:
            return as_info(cached)
        return as_info(self._source.token(TokenRequest(scopes, options or {})))

    def close(self) -> None:
        """Close the transport of each credential.

        The default transport keeps nothing open, so the credential can be used again; a transport given as a keyword
        decides for itself, and azure-core's refuse with a ``ValueError``.
        """
        self._source.close()

    def __enter__(self) -> Self:
        self._source.open()
        return self

    def __exit__(self, *args: object) -> None:
        self._source.close()


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
