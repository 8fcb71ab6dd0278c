"""The asynchronous ``DefaultCloudShellCredential``: the synchronous chain, waited for on an event loop."""

from __future__ import annotations

from typing import Any

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions

from .._azure import default_chain
from .._azure.credential import as_info, token_or_fail
from .._tokens.cache import CachedToken
from .._tokens.in_flight import InFlight
from ._waiting import wait


class DefaultCloudShellCredential:
    """A ``DefaultAzureCredential`` that works in Cloud Shell, for asyncio and trio.

    The asynchronous version of ``DefaultCloudShellCredential``: same steps, same
    keyword arguments, same cache. The steps are azure-identity's synchronous credentials, which run in a thread of
    their own for each token that has to be acquired.

    :keyword bool exclude_cloud_shell_credential: leave out Cloud Shell. Default False.
    :raises ValueError: if no step is left, or for a value that one of the steps refuses.
    """

    __module__ = "azure_cloudshell_credential.aio"

    def __init__(self, *, exclude_cloud_shell_credential: bool = False, **kwargs: Any) -> None:
        self._chain = default_chain.DefaultCloudShellCredential(
            exclude_cloud_shell_credential=exclude_cloud_shell_credential, **kwargs
        )

    @property
    def credentials(self) -> tuple[Any, ...]:
        """The credentials of the chain, in order. They are synchronous ones."""
        return tuple(self._chain.credentials)

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
        :keyword str claims: a claims challenge, which the credentials behind Cloud Shell may be able to satisfy.
        :keyword str tenant_id: the tenant the token must be for.
        :keyword bool enable_cae: whether the token may be subject to Continuous Access Evaluation. Default False.
        :return: the token and its expiry in Unix time.
        :rtype: azure.core.credentials.AccessToken
        :raises azure.core.exceptions.ClientAuthenticationError: if no credential has a token. The message says what
            each of them said.
        """
        options = {"claims": claims, "tenant_id": tenant_id, "enable_cae": enable_cae, **kwargs}
        return (await self._token(scopes, options)).access_token

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """Get an access token for a scope, with its refresh time. Azure SDK clients call this method.

        :param str scopes: one scope, such as ``https://management.azure.com/.default``.
        :keyword options: ``claims``, ``tenant_id`` and ``enable_cae`` as in ``get_token``; None counts as absent.
        :paramtype options: azure.core.credentials.TokenRequestOptions
        :return: the token, its expiry and its refresh time, in Unix time.
        :rtype: azure.core.credentials.AccessTokenInfo
        :raises azure.core.exceptions.ClientAuthenticationError: as ``get_token``.
        """
        return as_info(await self._token(scopes, dict(options or {})))

    async def close(self) -> None:
        """Close the transport of each credential in the chain."""
        self._chain.close()

    async def __aenter__(self) -> DefaultCloudShellCredential:
        self._chain.__enter__()
        return self

    async def __aexit__(self, *args: Any) -> None:
        self._chain.__exit__(*args)

    async def _token(self, scopes: tuple[str, ...], options: dict[str, Any]) -> CachedToken:
        outcome = self._chain._tokens.claim(scopes, options)
        if isinstance(outcome, InFlight):
            outcome = await wait(outcome)
        return token_or_fail(outcome)
