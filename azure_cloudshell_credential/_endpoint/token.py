"""A token: what a reply says of it, when it may be used, whose it is.

The endpoint's tokens are opaque to their bearer by contract. What is read in them here serves to name the user and to
notice a token for another resource, tenant or user, never to decide whether it is valid.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Callable, Mapping

from . import audiences, failures
from .failures import Failure
from .identity import identity_in
from .text import quoted
from .untrusted_json import read_json

HALF_LIFE_FROM = 7200
"""Tokens that live this many seconds or longer are refreshed at half their life, as azure-identity does."""

CLOCK_TOLERANCE = 300
"""Seconds by which ``expires_on`` and ``expires_in`` may differ before it is put down to this machine's clock."""

_MAX_LIFETIME = 366 * 24 * 3600
"""An expiry of Cloud Shell's further ahead than this is nonsense: a time in milliseconds, most likely."""

_YEAR_10000 = 253_402_300_800
"""Unix time that no calendar has a date for."""

_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")


class Token:
    """An access token.

    :param value: the token itself.
    :param expires_on: when it expires, in Unix time.
    :param refresh_on: when to ask for a new one, in Unix time; None leaves it to the last minutes.
    :param kind: how it is presented to a service, its ``token_type``.
    """

    # Thousands may be held.
    __slots__ = ("audience", "condition", "expires_on", "identity", "refresh_on", "token_type", "value", "warning")

    def __init__(self, value: str, expires_on: int, refresh_on: int | None = None, kind: str = "Bearer") -> None:
        self.value = value
        self.expires_on = expires_on
        self.refresh_on = refresh_on
        self.token_type = kind
        self.warning = ""
        claims = claims_of(value)
        # What else it claims is not kept: all of it is larger than the token.
        self.audience = claims.get("aud")
        self.identity = identity_in(claims)
        """Whose it is; nothing is known of it for an opaque token."""
        self.condition: Callable[[], bool] | None = None
        """Whether it may still be handed out, for one that may have to leave the cache before it expires."""


def read_token(resource: str, content: Mapping[str, object], now: float) -> Token | Failure:
    """What a reply that holds a token says of it.

    :param resource: what was requested.
    :param content: the JSON object in the reply.
    :param now: when the reply came, in Unix time.
    """
    times = {name: content[name] for name in ("expires_on", "expires_in") if content.get(name) not in (None, "")}
    expires_on, expires_in = _seconds(times.get("expires_on")), _seconds(times.get("expires_in"))
    # A reply in which either is malformed is not believed at all.
    if not times or len(times) > (expires_on is not None) + (expires_in is not None):
        return failures.unusable_reply(resource, "it does not say when the token expires")
    moment = int(now)
    stated = moment + (expires_in or 0) if expires_on is None else expires_on
    if stated > now + _MAX_LIFETIME:
        return failures.unusable_reply(resource, "its token expires more than a year ahead")
    life, warning = stated - moment, ""
    # An expires_in of 0 beside an expires_on says nothing. One that is larger than what is left is either the whole
    # life of a token that the endpoint had in its cache, or the clock of this machine is ahead: they cannot be told
    # apart, and the clock is named only if the token is of no use.
    if expires_in:
        if life <= 0 and expires_in - life > CLOCK_TOLERANCE:
            return failures.expired_by_our_clock(resource, -life, expires_in)
        if life - expires_in > CLOCK_TOLERANCE:
            warning = failures.clock_is_behind(resource, life, expires_in)
            stated = moment + expires_in
    if str(content.get("token_type", "Bearer")).lower() != "bearer":
        return failures.unusable_reply(resource, "its token is not a bearer token")
    token = checked_token(content.get("access_token"), stated, _refresh_time(content, stated, moment), "Bearer", now)
    if isinstance(token, str):
        return failures.unusable_reply(resource, f"it holds {token}")
    if isinstance(token.audience, str) and audiences.are_different(resource, token.audience):
        return failures.wrong_resource(resource, quoted(token.audience, 200))
    # It has served its purpose, and thousands may be held.
    token.audience = None
    token.warning = warning
    return token


def checked_token(value: object, expires_on: object, refresh_on: object, kind: object, now: float) -> Token | str:
    """What a credential has returned, checked: its token in one line, its expiry in whole seconds.

    :param value: the token.
    :param expires_on: when it expires, in Unix time. A fraction of a second is dropped.
    :param refresh_on: when to ask for a new one, in Unix time; anything other than a time is dropped.
    :param kind: how it is presented to a service.
    :param now: in Unix time.
    :return: the token; or what was returned instead, as a noun: "it returned no access token".
    """
    if not isinstance(value, str) or not value:
        return "no access token"
    if not (value.isascii() and value.isprintable() and " " not in value):
        return "an access token that is not printable ASCII"
    expiry = _whole_seconds(expires_on)
    if expiry is None or expiry >= _YEAR_10000:
        return "a token whose expiry is not a time in seconds"
    if expiry <= int(now):
        return "a token that has already expired"
    token_type = kind if isinstance(kind, str) and kind.isalnum() else "Bearer"
    return Token(value, expiry, _whole_seconds(refresh_on), token_type)


def _whole_seconds(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if 0 <= value < float("inf") else None


def _seconds(value: object) -> int | None:
    """As ``_whole_seconds``, of a number or a string of one."""
    return _whole_seconds(float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value)


def _refresh_time(content: Mapping[str, object], expires_on: int, now: int) -> int | None:
    """When to ask for a new token, in Unix time: what the reply says, else half life for long-lived tokens.

    As azure-identity computes it, which reads ``refresh_in``.
    """
    refresh_on, refresh_in = _seconds(content.get("refresh_on")), _seconds(content.get("refresh_in"))
    if refresh_on is None and refresh_in is not None:
        refresh_on = now + refresh_in
    if refresh_on is not None and now < refresh_on < expires_on:
        return refresh_on
    life = expires_on - now
    return now + life // 2 if life >= HALF_LIFE_FROM else None


def claims_of(token: str) -> dict[str, object]:
    """The claims in a token, not verified; empty when it is not a JWT.

    The endpoint's tokens are opaque to their bearer by contract; this serves to name the user and to notice a
    token for another resource, tenant or user, never to decide whether it is valid.
    """
    payload = token.partition(".")[2].partition(".")[0]
    try:
        claims = read_json(a2b_base64(payload.replace("-", "+").replace("_", "/") + "=="))
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}


def is_any_tenant(requested: str | None) -> bool:
    """Whether no particular tenant is asked for."""
    return not requested or requested.casefold() in ("common", "organizations")


def wrong_tenant(resource: str, token: Token, requested: str | None, signed_in_to: str | None) -> Failure | None:
    """Why a token is not for the tenant requested; None if it is, or if none was.

    :param requested: a tenant's id, or a domain name.
    :param signed_in_to: the tenant that the environment names, for a token that names none.
    """
    if requested is None or is_any_tenant(requested):
        return None
    actual = token.identity.tenant_id or signed_in_to
    if not audiences.is_guid(requested):
        # Ids are compared as ids. A name says nothing about an id, unless it is the user's own domain.
        return None if token.identity.is_in_domain(requested) else failures.tenant_by_name(resource, requested)
    if actual is not None and actual.casefold() == requested.casefold():
        return None
    return failures.other_tenant(resource, requested, actual)
