"""The cache of this package, and its one acquisition for all who wait, in front of any synchronous credential.

azure-identity's credentials for developers start a process for every token (``az``, ``azd``, PowerShell: 0.3 s and
more, azure-sdk-for-python#38912, #40636), and its chains keep nothing. ``CachedTokens`` keeps what they return, by
scope and tenant, with the freshness rules of Cloud Shell's own tokens, and asks once however many wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from azure.core.credentials import AccessTokenInfo
from azure.core.exceptions import ClientAuthenticationError

from .._endpoint.failures import Failure
from .._endpoint.protocol import Token
from .._tokens.cache import CachedToken, TokenCache
from .._tokens.in_flight import InFlight


class CachedTokens:
    """The tokens of one credential.

    :param ask: gets a token from the credential, given the scopes and the options; runs in a thread of its own.
    :param explain: the failure that an error of the credential's is, given the scope and the error.
    """

    def __init__(
        self,
        ask: Callable[[tuple[str, ...], dict[str, Any]], AccessTokenInfo],
        explain: Callable[[str, ClientAuthenticationError], Failure],
    ) -> None:
        self._ask = ask
        self._explain = explain
        # How long a credential takes is its own business: process_timeout, connection_timeout and so on.
        self._cache = TokenCache(None)

    def claim(self, scopes: tuple[str, ...], options: dict[str, Any]) -> CachedToken | Failure | InFlight:
        """What a caller gets: a token, why there is none, or an acquisition to wait for.

        :param options: what the caller wants of the token; None counts as absent. A claims challenge is always asked
            for, and what it brings replaces the token that was not good enough.
        :raises ValueError: without a scope.
        """
        if not scopes:
            raise ValueError("get_token requires a scope.")
        given = {name: value for name, value in options.items() if value}
        has_claims = bool(given.get("claims"))
        key = (scopes, *sorted((name, repr(value)) for name, value in given.items() if name != "claims"))
        if not has_claims and (cached := self._cache.fresh(key)) is not None:
            return cached
        outcome = self._cache.claim(key, lambda: self._acquire(scopes, given), must_ask=has_claims)
        self._cache.remember(key, key)
        return outcome

    def _acquire(self, scopes: tuple[str, ...], options: dict[str, Any]) -> Token | Failure:
        try:
            info = self._ask(scopes, options)
        except ClientAuthenticationError as error:
            return self._explain(" ".join(scopes), error)
        return Token(info.token, info.expires_on, info.refresh_on, token_type=info.token_type)
