"""What the credentials have in common: a request for a token, and where tokens come from.

A ``TokenSource`` decides what a request gets at once and what has to be acquired. The credentials, the broker and the
command line differ in how they wait for it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Hashable, Mapping
from copy import copy
from inspect import iscoroutinefunction
from typing import Any, NoReturn
from weakref import WeakValueDictionary

from azure.core.credentials import AccessTokenInfo

from .._endpoint.failures import Failure
from .._tokens.cache import CachedToken, TokenCache
from .._tokens.in_flight import InFlight

_LOGGER = logging.getLogger(__name__)


class TokenRequest:
    """A request for a token, as ``get_token`` and ``get_token_info`` get it.

    :param scopes: the scopes.
    :param options: the keyword arguments or options; None and False count as absent: Key Vault sends ``claims: None``.
    """

    __slots__ = ("claims", "key", "options", "scopes", "tenant_id")

    def __init__(self, scopes: tuple[str, ...], options: Mapping[str, Any]) -> None:
        self.scopes = scopes
        self.options = {name: value for name, value in options.items() if value}
        self.claims: str | None = self.options.get("claims")
        self.tenant_id: str | None = self.options.get("tenant_id")
        others = sorted((name, repr(value)) for name, value in self.options.items() if name != "claims")
        self.key: Hashable = (scopes, *others) if others else scopes


class TokenSource:
    """Where the tokens of a credential come from.

    :param arguments: its configuration. A copy, or a pickle, has the same, and no token.
    """

    cache: TokenCache

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments
        self.reset()
        _sources[id(self)] = self

    def __reduce__(self) -> tuple[type[TokenSource], tuple[Any, ...]]:
        return type(self), self._arguments

    def reset(self) -> None:
        """Begin anew, in the environment as it is now."""
        raise NotImplementedError

    def claim(self, request: TokenRequest) -> CachedToken | Failure | InFlight:
        """The token, the failure, or an acquisition to wait for.

        :raises ValueError: for a mistake of the caller's.
        """
        raise NotImplementedError

    def granted(self, request: TokenRequest, outcome: CachedToken | Failure) -> CachedToken:
        """The token; raises the exception for a failure."""
        return fail(outcome) if isinstance(outcome, Failure) else outcome

    def outcome(self, request: TokenRequest) -> CachedToken | Failure:
        """The token or the failure, waited for on this thread."""
        outcome = self.claim(request)
        result: CachedToken | Failure = outcome.wait() if isinstance(outcome, InFlight) else outcome
        return result

    def token(self, request: TokenRequest) -> CachedToken:
        """The token, waited for on this thread; raises the exception for a failure."""
        return self.granted(request, self.outcome(request))

    def open(self) -> None:
        """Open what sends requests."""

    def close(self) -> None:
        """Close what sends requests."""


_sources: WeakValueDictionary[int, TokenSource] = WeakValueDictionary()


def _living() -> list[TokenSource]:
    # A copy made in one operation: credentials come and go in other threads meanwhile.
    return [source for reference in _sources.valuerefs() if (source := reference()) is not None]


def forget_all_tokens() -> None:
    """Make every credential of this process ask anew."""
    for source in _living():
        source.cache.forget()


def reset_all() -> None:
    """Let every credential of this process begin anew, in the environment as it is now: for the emulator."""
    for source in _living():
        source.reset()


# azure-identity takes 190 ms to import, and is needed only for its exceptions. A process that forks meanwhile would
# leave the child with an import lock that no thread will release: so the fork waits.
importing = threading.RLock()


def _after_fork() -> None:
    importing.release()
    for source in _living():
        source.cache.forget_acquisitions()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=importing.acquire, after_in_parent=importing.release, after_in_child=_after_fork)


class Credential:
    """A credential over a source of tokens. A copy has a source of its own, with the same configuration."""

    _source: TokenSource

    def __getstate__(self) -> dict[str, Any]:
        return {"_source": copy(self._source)}


def fail(failure: Failure) -> NoReturn:
    """Raise the exception for a failure.

    At DEBUG level only it is logged too: in a chain that goes on, it is no reason for a line on the user's screen.
    """
    with importing:
        from .errors import as_exception

    _LOGGER.debug("No token: %s", failure.message)
    raise as_exception(failure)


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
