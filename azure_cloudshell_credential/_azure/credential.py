"""What the four credentials have in common: what a request for a token gets.

A credential decides what a request gets at once and what has to be acquired. The synchronous and the asynchronous ones,
the broker and the command line differ in how they wait for it.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from inspect import iscoroutinefunction
from typing import Any
from weakref import WeakValueDictionary

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from typing_extensions import Self

from .._endpoint import advice
from .._endpoint.failures import Failure
from .._endpoint.scopes import TokenRequest
from .._endpoint.token import Token
from .._tokens.cache import CachedToken, TokenCache
from .._tokens.in_flight import InFlight

_LOGGER = logging.getLogger(__name__)


class Credential:
    """What the four credentials have in common: their configuration, their tokens, and what a request gets.

    A copy, or a pickle, has the same configuration, what a subclass has added, and no token.

    :param kwargs: the configuration.
    """

    _cache: TokenCache
    _reader = advice.CREDENTIAL
    _transports: Sequence[Any]

    def __init__(self, **kwargs: Any) -> None:
        # A subclass may have set attributes of its own already.
        of_subclass = set(vars(self))
        self._options = kwargs
        self._reset()
        self._own_attributes = {"_own_attributes", *vars(self)} - of_subclass
        _credentials[id(self)] = self

    def __getstate__(self) -> dict[str, Any]:
        added = {name: value for name, value in vars(self).items() if name not in self._own_attributes}
        return {"options": self._options, "added": added}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Credential.__init__(self, **state["options"])
        vars(self).update(state["added"])

    def _forget_tokens(self, token: str | None = None) -> None:
        """Forget the tokens acquired so far: the next call asks for a new one.

        :param token: only this one, which a service no longer takes.
        """
        if token is None:
            self._cache.forget()
        else:
            self._cache.drop(token)

    def _begin_anew(self) -> None:
        """Forget tokens and failures, and look at the environment again, as a new credential does.

        :raises ValueError: if a new one could not be made in this environment; it stays as it is, without its tokens.
        :raises OSError: likewise, such as for a certificate that is not there.
        """
        self._forget_tokens()
        self._reset()

    def _reset(self) -> None:
        """Become what a new one would be, in the environment as it is now."""
        raise NotImplementedError

    def _begin(self, request: TokenRequest) -> CachedToken | Failure | InFlight:
        """The first step of every request: a token, a failure, or the acquisition to wait for.

        :raises ValueError: for a mistake of the caller's.
        """
        raise NotImplementedError

    def _wrong_tenant(self, _request: TokenRequest, _token: Token) -> Failure | None:
        """Why a token that others may have waited for too is not of the tenant that this request names."""
        return None

    def _open(self) -> None:
        for transport in self._transports:
            transport.__enter__()

    def _close(self, exc_type: Any = None, exc_value: Any = None, traceback: Any = None) -> None:
        for transport in self._transports:
            transport.__exit__(exc_type, exc_value, traceback)


_credentials: WeakValueDictionary[int, Credential] = WeakValueDictionary()


def living() -> list[Credential]:
    """The credentials of this process."""
    # A copy made in one operation: credentials come and go in other threads meanwhile.
    return [credential for reference in _credentials.valuerefs() if (credential := reference()) is not None]


# azure-identity takes 190 ms to import, and is needed only for its exceptions. A process that forks meanwhile would
# leave the child with an import lock that no thread will release: so the fork waits. Without this, children of a
# pre-forking server whose first call is under way hang in their own first call.
importing = threading.RLock()


def _after_fork() -> None:
    importing.release()
    for credential in living():
        credential._cache.forget_acquisitions()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=importing.acquire, after_in_parent=importing.release, after_in_child=_after_fork)


def load_errors() -> None:
    """Import azure-identity, for its exceptions."""
    with importing:
        from . import errors  # noqa: F401


def are_errors_loaded() -> bool:
    """Whether that has been done, to its end."""
    return hasattr(sys.modules.get(f"{__package__}.errors"), "as_exception")


def token_or_raise(outcome: CachedToken | Failure, reader: str) -> CachedToken:
    """The last step of every request: the token, or the exception for a failure.

    :param reader: who reads its message, a word that ``advice`` knows.

    At DEBUG level only it is logged too: in a chain that goes on, it is no reason for a line on the user's screen.
    """
    if isinstance(outcome, Failure):
        load_errors()
        from .errors import as_exception

        message = advice.message(outcome, reader)
        _LOGGER.debug("No token: %s", message)
        raise as_exception(outcome, message)
    return outcome


def as_info(cached: CachedToken) -> AccessTokenInfo:
    """The token as ``get_token_info`` returns it. A new object: callers may change theirs."""
    token = cached.token
    return AccessTokenInfo(token.value, token.expires_on, refresh_on=token.refresh_on, token_type=token.token_type)


def check_is_synchronous(credential: object) -> None:
    """Check that something is a synchronous credential.

    :raises TypeError: if it is not.
    """
    method = getattr(credential, "get_token", None) or getattr(credential, "get_token_info", None)
    if not callable(method):
        raise TypeError(f"{type(credential).__name__} is not a credential: it has no get_token method.")
    if iscoroutinefunction(method):
        raise TypeError(f"{type(credential).__name__} is asynchronous: a synchronous credential is needed here.")


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

        :param str scopes: one scope, such as ``https://management.azure.com/.default``, or several of one resource.
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
        :raises ValueError: for no scope, or for a name that is not a scope.
        """
        is_plain = not (claims or tenant_id or enable_cae or kwargs)
        if is_plain and (cached := self._cache.fresh(scopes)) is not None:
            return cached.access_token
        options = {"claims": claims, "tenant_id": tenant_id, "enable_cae": enable_cae, **kwargs}
        return token_or_raise(self._outcome(TokenRequest(scopes, options)), self._reader).access_token

    def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """Get an access token for a scope, with its refresh time. Azure SDK clients call this method.

        :param str scopes: one scope, such as ``https://management.azure.com/.default``, or several of one resource.
        :keyword options: ``claims``, ``tenant_id``, ``enable_cae`` and ``pop`` as in ``get_token``; None counts as
            absent.
        :paramtype options: azure.core.credentials.TokenRequestOptions
        :return: the token, its expiry and its refresh time, in Unix time.
        :rtype: azure.core.credentials.AccessTokenInfo
        :raises azure.core.exceptions.ClientAuthenticationError: as ``get_token``.
        :raises ValueError: for no scope, or for a name that is not a scope.
        """
        cached = None if options else self._cache.fresh(scopes)
        if cached is None:
            cached = token_or_raise(self._outcome(TokenRequest(scopes, options or {})), self._reader)
        return as_info(cached)

    def close(self) -> None:
        """Close the transport of each credential.

        The default transport keeps nothing open, so the credential can be used again; a transport given as a keyword
        decides for itself, and azure-core's refuse with a ``ValueError``.
        """
        self._close()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *args: object) -> None:
        self._close(*args)

    def _outcome(self, request: TokenRequest) -> CachedToken | Failure:
        """What a request gets, waited for on this thread."""
        outcome = self._begin(request)
        if isinstance(outcome, InFlight):
            outcome = outcome.wait()
        if request.tenant_id and isinstance(outcome, CachedToken):
            return self._wrong_tenant(request, outcome.token) or outcome
        return outcome
