"""The protocol of the token endpoint, without I/O.

Three things are known here and nowhere else: which resource a scope means and how to ask for it, what a reply
means, and whether and when to ask again. The last is a generator: it yields an :class:`Ask` or a :class:`Pause`,
is sent what came of it, and returns a :class:`Token` or a :class:`~._failures.Failure`. Whoever drives it does the
sending and the waiting: the sync credential, its async twin and the command line each in their own way.
"""

from __future__ import annotations

import json
import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Generator, Mapping
from time import monotonic, time

from . import _audiences, _failures
from ._failures import Failure

# typing's own would cost the command line its import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

HEADERS: Mapping[str, str] = {
    "Metadata": "true",
    # Without it the endpoint has been seen to miss the body: microsoft-authentication-library-for-java#771.
    "Content-Type": "application/x-www-form-urlencoded",
    "Accept": "application/json",
    # Nothing is gained by compression on loopback, and an inflating body could grow past any bound.
    "Accept-Encoding": "identity",
}

DEFAULT_TIMEOUT = 30.0
"""Seconds for one acquisition, retries included. How long the endpoint itself waits for the portal is not known."""

DEFAULT_RETRY_TOTAL = 3
DEFAULT_BACKOFF_FACTOR = 0.4

HALF_LIFE_FROM = 7200
"""Tokens that live this many seconds or longer are refreshed at half their life, as azure-identity does."""

_LONGEST_LIFE = 366 * 24 * 3600
"""An expiry further ahead than this is nonsense: a time in milliseconds, most likely."""

_SCOPE = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]+")
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DIGITS = re.compile(r"[0-9]{1,15}")
_ENTRA_SAYS_NO = re.compile(r"AADSTS\d+|interaction_required")
_REPLY_STATUSES_WORTH_A_RETRY = (400, 429)


class Ask:
    """Send the request for ``resource`` and wait at most ``seconds`` for the whole reply.

    The answer is a :class:`Reply`, a :class:`NoReply`, or None if the request's turn did not come in that time.
    """

    __slots__ = ("resource", "seconds")

    def __init__(self, resource: str, seconds: float) -> None:
        self.resource = resource
        self.seconds = seconds


class Pause:
    """Wait ``seconds``."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


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
    """

    __slots__ = ("expires_on", "refresh_on", "tenant_id", "value")

    def __init__(self, value: str, expires_on: int, refresh_on: int | None, tenant_id: str | None) -> None:
        self.value = value
        self.expires_on = expires_on
        self.refresh_on = refresh_on
        self.tenant_id = tenant_id

    def __repr__(self) -> str:
        return f"Token(expires_on={self.expires_on}, tenant_id={self.tenant_id!r})"


class Patience:
    """How long and how often to ask.

    :param timeout: seconds for the whole acquisition.
    :param retry_total: how often to ask again after a failure that may pass.
    :param backoff_factor: seconds before the first retry; doubled for each one after it.
    """

    __slots__ = ("backoff_factor", "retry_total", "timeout")

    def __init__(
        self,
        timeout: float = DEFAULT_TIMEOUT,
        retry_total: int = DEFAULT_RETRY_TOTAL,
        backoff_factor: float = DEFAULT_BACKOFF_FACTOR,
    ) -> None:
        self.timeout = timeout
        self.retry_total = retry_total
        self.backoff_factor = backoff_factor


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
    if not isinstance(scope, str) or not _SCOPE.fullmatch(scope):
        raise ValueError("A scope must be a non-empty string without white space or control characters.")
    if scope.endswith("/.default"):
        resource = scope.removesuffix("/.default")
        if not resource:
            raise ValueError("The scope '/.default' names no resource.")
        return resource
    if _audiences.find(scope) is not None:
        return scope
    scheme, separator, rest = scope.partition("://") if "://" in scope else ("", "", scope)
    resource, _, permission = rest.rpartition("/")
    return scheme + separator + resource if resource and permission else scope


def form(resource: str) -> bytes:
    """The body of the request, URL-encoded. (``urllib.parse`` would take the command line longer to import.)"""
    encoded = (chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in resource.encode())
    return ("resource=" + "".join(encoded)).encode()


def acquire(resource: str, patience: Patience) -> Generator[Ask | Pause, Any, Token | Failure]:
    """Ask for a token as often as makes sense within the budget.

    :param resource: what to ask for.
    :param patience: the budget.
    :return: through ``StopIteration``, the token or why there is none.
    """
    deadline = monotonic() + patience.timeout
    retries = 0
    while True:
        answer = yield Ask(resource, max(0.0, deadline - monotonic()))
        if answer is None:
            return _failures.busy(resource, patience.timeout)
        if isinstance(answer, NoReply):
            if answer.timed_out:
                return _failures.no_answer(resource, patience.timeout)
            return _failures.unreachable(resource, answer.reason)
        outcome = read_reply(resource, answer, time())
        if isinstance(outcome, Token) or not outcome.may_pass or retries >= patience.retry_total:
            return outcome
        if outcome.kind == "wrong_resource":
            # A mix-up inside the endpoint: the next answer is right or will not be, waiting changes nothing.
            if retries:
                return outcome
            pause = 0.0
        else:
            pause = max(outcome.retry_after, patience.backoff_factor * 2**retries)
        retries += 1
        if monotonic() + pause >= deadline:
            return outcome
        yield Pause(pause)


def drive(steps: Generator[Any, Any, T], perform: Callable[[Any], Any]) -> T:
    """Perform each step and send back its answer, to the end.

    :param steps: such as :func:`acquire`.
    :param perform: does what a step says; what it raises ends the steps.
    :return: what the steps return.
    """
    try:
        step = next(steps)
        while True:
            step = steps.send(perform(step))
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        steps.close()


def read_reply(resource: str, reply: Reply, now: float) -> Token | Failure:
    """What a reply means.

    :param resource: what was asked for.
    :param now: when the reply came, in Unix time.
    """
    if 300 <= reply.status < 400:
        return _failures.redirected(resource, reply.status)
    content, problem = _parse(reply)
    if content is not None and ("error" in content or not 200 <= reply.status < 300):
        return _read_error(resource, reply, content, now)
    if not 200 <= reply.status < 300:
        return _failures.endpoint_error(
            resource,
            reply.status,
            f"no reason given ({problem}).",
            may_pass=_may_pass(reply.status),
            retry_after=_retry_after(reply, now),
        )
    if content is None:
        return _failures.unusable_reply(resource, problem)
    return _read_token(resource, content, now)


def _parse(reply: Reply) -> tuple[dict[str, Any] | None, str]:
    """The JSON object in the body, or None and what is there instead. The content type has no say."""
    if reply.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        return None, "it is compressed, which was not asked for"
    if not reply.body.strip():
        return None, "it is empty"
    try:
        content = json.loads(reply.body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None, f"its {len(reply.body)} bytes are not JSON"
    if not isinstance(content, dict):
        return None, f"it is a JSON {type(content).__name__}, not an object"
    return content, ""


def _read_error(resource: str, reply: Reply, content: dict[str, Any], now: float) -> Failure:
    error = content.get("error")
    if isinstance(error, dict):
        code, message = error.get("code"), error.get("message")
    else:
        code, message = error, content.get("error_description")
    code = code if isinstance(code, str) else ""
    message = message if isinstance(message, str) else ""
    for secret in _secrets(content) | (_secrets(error) if isinstance(error, dict) else set()):
        code, message = code.replace(secret, "[redacted]"), message.replace(secret, "[redacted]")
    if code == "AudienceNotSupported":
        _, _, listed = message.partition("Supported audiences:")
        supported = (_failures.quotable(name, 200).rstrip(".") for name in listed.split(",") if name.strip())
        return _failures.audience_not_supported(resource, tuple(supported)[:200])
    said = _failures.quotable(f"({code}) {message}" if code else message or "no reason given")
    if _ENTRA_SAYS_NO.search(f"{code} {message}"):
        return _failures.entra_refused(resource, said)
    if message.startswith("Timeout waiting for token from portal"):
        return _failures.portal_timeout(resource, said, retry_after=_retry_after(reply, now))
    return _failures.endpoint_error(
        resource, reply.status, said, may_pass=_may_pass(reply.status), retry_after=_retry_after(reply, now)
    )


def _secrets(content: dict[str, Any]) -> set[str]:
    """The tokens in a reply that is not a token's, lest its message quotes them."""
    return {value for name, value in content.items() if name.endswith("_token") and isinstance(value, str) and value}


def _may_pass(status: int) -> bool:
    return status in _REPLY_STATUSES_WORTH_A_RETRY or status >= 500


def _retry_after(reply: Reply, now: float) -> float:
    """The seconds that ``Retry-After`` asks for, 0 without a usable one."""
    value = reply.headers.get("retry-after", "").strip()
    if _DIGITS.fullmatch(value):
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
        return _failures.unusable_reply(resource, "it holds no access token")
    if not _VISIBLE_ASCII.fullmatch(value):
        return _failures.unusable_reply(resource, "its access token is not one line of visible ASCII")
    token_type = content.get("token_type", "Bearer")
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        return _failures.unusable_reply(resource, "its token is not a bearer token")
    expires_on = _expiry(content, now)
    if expires_on is None:
        return _failures.unusable_reply(resource, "it does not say when the token expires")
    if expires_on > now + _LONGEST_LIFE:
        return _failures.unusable_reply(resource, "its token expires impossibly late")
    life = expires_on - int(now)
    if life <= 0:
        return _failures.unusable_reply(resource, "its token has already expired")
    claims = claims_of(value)
    received = claims.get("aud")
    if isinstance(received, str) and _audiences.are_different(resource, received):
        return _failures.wrong_resource(resource, received)
    tenant_id = claims.get("tid")
    return Token(
        value,
        expires_on,
        int(now) + life // 2 if life >= HALF_LIFE_FROM else None,
        tenant_id if isinstance(tenant_id, str) and tenant_id else None,
    )


def _expiry(content: dict[str, Any], now: float) -> int | None:
    """When the token expires, in Unix time: ``expires_on``, else ``expires_in``, each a number or a string.

    Both are checked when both are there: nonsense in one casts doubt on the reply. A cached token's ``expires_in``
    may still be its whole life, so ``expires_on`` decides.
    """
    times: list[int | None] = []
    for name, start in (("expires_on", 0), ("expires_in", int(now))):
        value = content.get(name)
        if value is None or value == "":
            continue
        seconds = _whole_seconds(value)
        times.append(None if seconds is None else start + seconds)
    return times[0] if times and None not in times else None


def _whole_seconds(value: object) -> int | None:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return int(value)
    return None


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


def user_in(claims: Mapping[str, Any]) -> Any:
    """The user that a token's claims name, None if they name nobody."""
    return claims.get("upn") or claims.get("unique_name")
