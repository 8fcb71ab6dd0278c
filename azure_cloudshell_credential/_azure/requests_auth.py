"""``CloudShellAuth``: the user's token on plain REST calls made with requests, or with httpx."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from typing import Any

from azure.core.credentials import TokenCredential
from requests import PreparedRequest, Response
from requests.auth import AuthBase

from .._endpoint.audiences import resource_at
from .._endpoint.scopes import scope_to_resource
from .._endpoint.text import quoted
from .default_chain import DefaultCloudShellCredential, cached

_CLAIMS = re.compile(r'\bclaims="?([A-Za-z0-9+/_-]+)')
_EXPIRED = re.compile(r"ExpiredAuthenticationToken|token[^\"]{0,40}expired|Lifetime validation failed", re.IGNORECASE)


class CloudShellAuth(AuthBase):
    """Puts the user's token on requests.

    For example:

        requests.get("https://management.azure.com/subscriptions?api-version=2022-12-01", auth=CloudShellAuth())

    The token is cached and refreshed as needed, so one instance can serve a session for as long as it lives. requests
    itself takes the header off when a redirect leads to another host. With requests, a 401 that carries a claims
    challenge, or says that the token has expired, is answered once with a new token.

    :param scope: what the token is for. Default: the service that the request is for, by its host, in whichever cloud
        it is: Resource Manager, Microsoft Graph, a key vault, a storage account and others. A host of none of them
        needs a scope: a token goes to no service that it is not for.
    :keyword credential: where to get the token; its tokens are cached. Default: a ``DefaultCloudShellCredential``.
    :paramtype credential: azure.core.credentials.TokenCredential
    :raises ValueError: for a name that is not a scope.
    :raises TypeError: for a credential in the place of a scope, or one that is asynchronous.
    """

    __module__ = "azure_cloudshell_credential"

    def __init__(self, scope: str | None = None, *, credential: TokenCredential | None = None) -> None:
        if not isinstance(scope, (str, type(None))):
            raise TypeError("The first argument is a scope; pass a credential as credential=.")
        if scope is not None:
            scope_to_resource(scope)
        self._scope = scope
        self._credential = cached(credential or DefaultCloudShellCredential())

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the ``Authorization`` header.

        :raises ValueError: if the request would carry the token over plain HTTP, or if there is no scope for its host.
        :raises azure.core.exceptions.ClientAuthenticationError: if there is no token.
        """
        url = str(request.url or "")
        if not url.lower().startswith("https://"):
            raise ValueError("A token is sent over HTTPS only; use an https:// URL.")
        scope = self._scope or _scope_of(url)
        token = self._credential.get_token(scope).token
        request.headers["Authorization"] = f"Bearer {token}"
        if isinstance(request, PreparedRequest):
            hooks = request.hooks.setdefault("response", [])
            hooks.append(lambda response, **options: self._ask_again(response, scope, token, options))
        return request

    def _ask_again(self, response: Response, scope: str, token: str, options: dict[str, Any]) -> Response:
        """The response, or that to one more request with a new token."""
        request = response.request.copy()
        can_repeat = request.body is None or isinstance(request.body, (bytes, str))
        if response.status_code != 401 or not can_repeat or request.headers.get("Authorization") != f"Bearer {token}":
            return response
        challenge = response.headers.get("WWW-Authenticate", "")
        claims = _claims_in(challenge)
        # Read in any case, which frees the connection although there may be no new token.
        said = response.text
        if claims is None and not _EXPIRED.search(f"{challenge} {said[:4000]}"):
            return response
        if claims is None:
            self._credential._forget_tokens(token)
        new = self._credential.get_token(scope, claims=claims).token
        if new == token:
            return response
        # Frees the connection for the next request.
        response.close()
        request.headers["Authorization"] = f"Bearer {new}"
        again: Response = response.connection.send(request, **options)
        again.history.append(response)
        return again


def _scope_of(url: str) -> str:
    """The scope of the service that answers at a URL.

    :raises ValueError: if it is not a known one.
    """
    if (resource := resource_at(url)) is None:
        host = quoted(re.split("[/?#]", url)[2].rpartition("@")[2], 100)
        raise ValueError(f"{host!r} is not a host of a known service: pass its scope, CloudShellAuth(scope=...).")
    return f"{resource.rstrip('/')}/.default"


def _claims_in(challenge: str) -> str | None:
    """The claims that a service asks for, as JSON."""
    match = _CLAIMS.search(challenge)
    try:
        return urlsafe_b64decode(f"{match[1]}==").decode() if match else None
    except ValueError:
        return None
