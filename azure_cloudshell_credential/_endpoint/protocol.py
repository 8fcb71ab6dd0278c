"""The protocol of the token endpoint, without I/O.

Two things are known here and nowhere else: which resource a scope means and how to ask for it, and what a reply means.
Pure functions over plain values: the code that sends the request passes a ``Reply`` in and gets a ``Token``
or a ``Failure`` out.
"""

from __future__ import annotations

import json
import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Mapping

from . import audiences, entra, failures
from .failures import Failure

# typing's own would cost the command line its import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADERS: Mapping[str, str] = {
    "Metadata": "true",
    # Without it the endpoint has been seen to miss the body: microsoft-authentication-library-for-java#771.
    "Content-Type": "application/x-www-form-urlencoded",
    "Accept": "application/json",
    # Nothing is gained by compression on loopback, and an inflating body could grow past any bound.
    "Accept-Encoding": "identity",
}

HALF_LIFE_FROM = 7200
"""Tokens that live this many seconds or longer are refreshed at half their life, as azure-identity does."""

_MAX_LIFETIME = 366 * 24 * 3600
"""An expiry further ahead than this is nonsense: a time in milliseconds, most likely."""

# Patterns, compiled where they are needed: compiling all of them would cost the command line milliseconds.
_SCOPE = r"[^\s\x00-\x1f\x7f-\x9f]+"
# Graph's permissions: Resource.Operation, Resource.Operation.Constraint.
_PERMISSION = r"[A-Z][A-Za-z]+(?:-[A-Za-z]+)?(?:\.[A-Z][A-Za-z]+){1,3}"
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"
_RETRYABLE_STATUSES = (400, 429)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_MAX_MESSAGE = 16_000
"""How much of an error's text is looked at. The longest known, with 25 audiences, has less than 1,000 characters."""

_MAX_TOKEN_FIELDS = 8


class Reply:
    """What the endpoint answered. Its repr does not show the body, which may hold a token.

    :param headers: with names in lower case.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"Reply({self.status}, {len(self.body)} bytes)"


class NoReply:
    """Why there was no reply: it took too long, or ``reason``, the end of a sentence."""

    __slots__ = ("reason", "timed_out")

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        self.reason = reason
        self.timed_out = timed_out

    def __repr__(self) -> str:
        return f"NoReply({self.reason!r})"


class Token:
    """An access token. Its repr does not show it.

    :param value: the token itself.
    :param expires_on: when it expires, in Unix time.
    :param refresh_on: when to ask for a new one, in Unix time; None leaves it to the last minutes.
    :param tenant_id: the tenant it was issued by, None if the token does not say.
    :param token_type: how it is presented to a service.
    """

    __slots__ = ("expires_on", "refresh_on", "tenant_id", "token_type", "value")

    def __init__(
        self,
        value: str,
        expires_on: int,
        refresh_on: int | None = None,
        tenant_id: str | None = None,
        token_type: str = "Bearer",  # noqa: S107 - the kind of token, not one
    ) -> None:
        self.value = value
        self.expires_on = expires_on
        self.refresh_on = refresh_on
        self.tenant_id = tenant_id
        self.token_type = token_type

    def __repr__(self) -> str:
        return f"Token(expires_on={self.expires_on}, tenant_id={self.tenant_id!r})"


def scope_to_resource(scopes: tuple[str, ...]) -> str:
    """The resource that a scope is for.

    ``/.default`` is stripped and nothing else of the URI touched, so that ``https://management.azure.com//.default``
    asks for ``https://management.azure.com/``. A delegated scope (``https://graph.microsoft.com/User.Read``) asks
    for its resource. A bare resource, a URI or an application id, passes through.

    :raises ValueError: unless there is exactly one scope, a non-empty string without white space.
    """
    if len(scopes) != 1:
        raise ValueError("Cloud Shell issues a token for exactly one scope per request.")
    scope = scopes[0]
    if not isinstance(scope, str) or not re.fullmatch(_SCOPE, scope):
        raise ValueError("A scope must be a non-empty string without white space or control characters.")
    if scope.endswith("/.default"):
        resource = scope.removesuffix("/.default")
        if not resource:
            raise ValueError("The scope '/.default' names no resource.")
        return resource
    if audiences.lookup(scope) is not None:
        return scope
    # The slashes of "https://" separate nothing: only one after them separates a permission from its resource.
    path_start = scope.find("://") + 3 if "://" in scope else 0
    slash = scope.rfind("/", path_start)
    has_permission = path_start < slash < len(scope) - 1
    return scope[:slash] if has_permission else scope


def is_bare_permission(scope: str) -> bool:
    """Whether a scope is a permission without a resource, such as ``User.Read``."""
    return re.fullmatch(_PERMISSION, scope) is not None


def form(resource: str) -> bytes:
    """The body of the request, URL-encoded."""
    # urllib.parse would take the command line longer to import.
    encoded = (chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in resource.encode())
    return ("resource=" + "".join(encoded)).encode()


def read_reply(resource: str, reply: Reply, now: float) -> Token | Failure:
    """What a reply means.

    :param resource: what was requested.
    :param now: when the reply came, in Unix time.
    """
    if 300 <= reply.status < 400:
        return failures.redirected(resource, reply.status)
    content, problem = _parse(reply)
    is_success = 200 <= reply.status < 300
    if content is None and is_success:
        return failures.unusable_reply(resource, problem)
    if content is None:
        return failures.endpoint_error(
            resource,
            reply.status,
            f"no reason given ({problem}).",
            retryable=_is_retryable(reply.status),
            retry_after=_retry_after(reply, now),
        )
    if content.get("error") or not is_success:
        return _classify_error(resource, reply, *_error_in(content), now)
    return _read_token(resource, content, now)


def _parse(reply: Reply) -> tuple[dict[str, Any] | None, str]:
    """The JSON object in the body, or None and what is there instead. Content-Type is ignored."""
    if reply.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        return None, "it is compressed, which was not asked for"
    if not reply.body.strip():
        return None, "it is empty"
    try:
        # Not by the codec "utf-8-sig": looking that up imports a module, in the thread of an acquisition, and a process
        # that forks meanwhile leaves the child with an import lock that nobody will release.
        content = json.loads(reply.body.removeprefix(_BYTE_ORDER_MARK).decode())
    except (ValueError, RecursionError):
        return None, f"its {len(reply.body)} bytes are not JSON"
    if not isinstance(content, dict):
        return None, f"it is a JSON {type(content).__name__}, not an object"
    return content, ""


def _error_in(content: dict[str, Any]) -> tuple[str, str]:
    """The code and message of an error, nested as the endpoint sends it or flat as OAuth does, without any token."""
    error = content.get("error")
    if isinstance(error, dict):
        fields = {**content, **error}
        code, message = error.get("code"), error.get("message")
    else:
        fields = content
        code, message = error, content.get("error_description")
    code = code if isinstance(code, str) else ""
    message = message if isinstance(message, str) else ""
    tokens = [value for name, value in fields.items() if name.endswith("_token") and isinstance(value, str) and value]
    return _without(tokens, code), _without(tokens, message)


def _without(tokens: list[str], text: str) -> str:
    """The start of a text of the endpoint's, in case it quotes a token that came beside it.

    Bounded in what is looked at: an endless reply must not cost the caller more than its transfer.
    """
    if len(tokens) > _MAX_TOKEN_FIELDS:
        return "[redacted]"
    start = text[:_MAX_MESSAGE]
    for token in tokens:
        start = start.replace(token, "[redacted]")
    if tokens and len(text) > _MAX_MESSAGE:
        # The cut may have left the first part of a token, which is no longer found.
        start = start[: max(0, len(start) - max(map(len, tokens)))]
    return start


def _classify_error(resource: str, reply: Reply, code: str, message: str, now: float) -> Failure:
    if code == "AudienceNotSupported":
        _, _, listed = message.partition("Supported audiences:")
        supported = [failures.quoted(name, 200) for name in listed.split(",")[:200] if name.strip()]
        return failures.audience_not_supported(resource, tuple(supported))
    said = failures.sentence(failures.quoted(f"({code}) {message}" if code else message or "no reason given"))
    if (advised := entra.advise(f"{code} {message}")) is not None:
        retryable, advice = advised
        return failures.entra_refused(resource, said, advice, retryable=retryable)
    if message.startswith("Timeout waiting for token from portal"):
        return failures.portal_timeout(resource, said, retry_after=_retry_after(reply, now))
    return failures.endpoint_error(
        resource, reply.status, said, retryable=_is_retryable(reply.status), retry_after=_retry_after(reply, now)
    )


def _is_retryable(status: int) -> bool:
    return status in _RETRYABLE_STATUSES or status >= 500


def _retry_after(reply: Reply, now: float) -> float:
    """The seconds that ``Retry-After`` asks for, 0 without a usable one."""
    value = reply.headers.get("retry-after", "").strip()
    if re.fullmatch(_NUMBER, value):
        return float(value)
    if not value:
        return 0.0
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0


def _read_token(resource: str, content: dict[str, Any], now: float) -> Token | Failure:
    value = content.get("access_token")
    if not isinstance(value, str) or not value:
        return failures.unusable_reply(resource, "it holds no access token")
    if not (value.isascii() and value.isprintable() and " " not in value):
        return failures.unusable_reply(resource, "its access token is not printable ASCII")
    token_type = content.get("token_type", "Bearer")
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        return failures.unusable_reply(resource, "its token is not a bearer token")
    expires_on = _expiry(content, now)
    if expires_on is None:
        return failures.unusable_reply(resource, "it does not say when the token expires")
    if expires_on > now + _MAX_LIFETIME:
        return failures.unusable_reply(resource, "its token expires more than a year ahead")
    if expires_on <= int(now):
        return failures.unusable_reply(resource, "its token has already expired")
    claims = claims_of(value)
    received = claims.get("aud")
    if isinstance(received, str) and audiences.are_different(resource, received):
        return failures.wrong_resource(resource, received)
    tenant_id = claims.get("tid")
    return Token(
        value,
        expires_on,
        _refresh_time(content, expires_on, int(now)),
        tenant_id if isinstance(tenant_id, str) and tenant_id else None,
    )


def _expiry(content: dict[str, Any], now: float) -> int | None:
    """When the token expires, in Unix time: ``expires_on``, else ``expires_in``, each a number or a string.

    A reply in which either is malformed is not believed at all. Where both are well formed ``expires_on`` decides: a
    cached token's ``expires_in`` may still be its whole life.
    """
    expires_on, on_is_sound = _seconds(content, "expires_on")
    expires_in, in_is_sound = _seconds(content, "expires_in")
    if not on_is_sound or not in_is_sound:
        return None
    if expires_on is not None:
        return expires_on
    return None if expires_in is None else int(now) + expires_in


def _refresh_time(content: dict[str, Any], expires_on: int, now: int) -> int | None:
    """When to ask for a new token, in Unix time: what the reply says, else half life for long-lived tokens.

    As azure-identity computes it, which reads ``refresh_in``.
    """
    refresh_on, _ = _seconds(content, "refresh_on")
    refresh_in, _ = _seconds(content, "refresh_in")
    if refresh_on is None and refresh_in is not None:
        refresh_on = now + refresh_in
    if refresh_on is not None and now < refresh_on < expires_on:
        return refresh_on
    life = expires_on - now
    return now + life // 2 if life >= HALF_LIFE_FROM else None


def _seconds(content: dict[str, Any], name: str) -> tuple[int | None, bool]:
    """A field as whole seconds, None where there is none; and False if it holds anything else than seconds."""
    value = content.get(name)
    if value is None or value == "":
        return None, True
    if isinstance(value, str) and re.fullmatch(_NUMBER, value):
        return int(float(value)), True
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return int(value), True
    return None, False


def claims_of(token: str) -> dict[str, Any]:
    """The claims in a token, not verified; empty when it is not a JWT.

    The endpoint's tokens are opaque to their bearer by contract; this serves to name the user and to notice a
    token for another resource or tenant, never to decide whether it is valid.
    """
    parts = token.split(".")
    if len(parts) < 2:
        return {}
    try:
        payload = a2b_base64(parts[1].replace("-", "+").replace("_", "/") + "==")
        claims = json.loads(payload.decode("utf-8"))
    except (Base64Error, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def shown_claim(claims: Mapping[str, Any], *names: str) -> str | None:
    """The first of some claims that the token has, fit to be shown: nobody has verified what it holds."""
    for name in names:
        value = claims.get(name)
        if isinstance(value, str) and value:
            return failures.quoted(value, 200)
    return None


def user_in(claims: Mapping[str, Any]) -> str | None:
    """The user that a token's claims name, None if they name nobody."""
    return shown_claim(claims, "upn", "unique_name")


def wrong_tenant(resource: str, token: Token, requested: str | None, signed_in_to: str | None) -> Failure | None:
    """Why a token is not for the tenant requested; None if it is, or if none was.

    :param signed_in_to: the tenant that the environment names, for a token that names none.
    """
    actual = token.tenant_id or signed_in_to
    if not requested or (actual is not None and actual.casefold() == requested.casefold()):
        return None
    return failures.other_tenant(resource, requested, actual)
