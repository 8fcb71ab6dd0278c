"""``CloudShellAuth``: the user's token on plain REST calls made with requests."""

from __future__ import annotations

import os

from azure.core.credentials import TokenCredential
from requests import PreparedRequest
from requests.auth import AuthBase

from .._endpoint import audiences
from .credential import CloudShellCredential


class CloudShellAuth(AuthBase):
    """Puts the user's token on requests.

    For example:

        requests.get("https://management.azure.com/subscriptions?api-version=2022-12-01", auth=CloudShellAuth())

    The token is cached and refreshed as needed, so one instance can serve a session for as long as it lives. requests
    itself takes the header off when a redirect leads to another host.

    :param scope: what the token is for. Default: Azure Resource Manager, in the cloud that ``ACC_CLOUD`` names.
    :keyword credential: where to get the token, such as a ``ChainedTokenCredential``. Default: a
        ``CloudShellCredential``.
    :paramtype credential: azure.core.credentials.TokenCredential
    """

    __module__ = "azure_cloudshell_credential"

    def __init__(self, scope: str | None = None, *, credential: TokenCredential | None = None) -> None:
        cloud = audiences.cloud_named(os.environ.get("ACC_CLOUD"))
        self._scope = scope or f"{cloud.resource_manager}/.default"
        self._credential = credential or CloudShellCredential()

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the ``Authorization`` header.

        :raises ValueError: if the request would carry the token over plain HTTP.
        :raises azure.identity.CredentialUnavailableError: if there is no token, as ``CloudShellCredential.get_token``.
        """
        if not (request.url or "").lower().startswith("https://"):
            raise ValueError("A token is sent over HTTPS only; use an https:// URL.")
        request.headers["Authorization"] = f"Bearer {self._credential.get_token(self._scope).token}"
        return request
