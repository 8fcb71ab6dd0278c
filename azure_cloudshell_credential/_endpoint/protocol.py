"""The protocol of the token endpoint, without I/O.

Two things are known here and nowhere else: how to ask for a resource, and what a reply means.
Pure functions over plain values: the code that sends the request passes a ``Reply`` in and gets a ``Token``
or a ``Failure`` out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from . import failures
from .environment import Endpoint
from .failures import Failure
from .text import quoted, sentence
from .token import Token, read_token
from .untrusted_json import read_json

HEADERS: Mapping[str, str] = {
    "Metadata": "true",
    # Without it the endpoint has been seen to miss the body: microsoft-authentication-library-for-java#771.
    "Content-Type": "application/x-www-form-urlencoded",
    "Accept": "application/json",
    # Nothing is gained by compression on loopback, and an inflating body could grow past any bound.
    "Accept-Encoding": "identity",
}


_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")
_ENTRA = re.compile(r"AADSTS[0-9]|interaction_required")


class Reply:
    """What the endpoint answered.

    :param headers: with names in lower case.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class NoReply:
    """Why there was no reply.

    :param reason: the end of a sentence.
    :param meaning: what it means for a token: ``refused`` (nobody listens), ``unreachable``, ``no_answer`` or ``busy``.
    """

    def __init__(self, reason: str, meaning: str = "unreachable") -> None:
        self.reason = reason
        self.meaning = meaning

    def as_failure(self, resource: str, budget: float, endpoint: Endpoint) -> Failure:
        """Why there is no token, where all that there is to say is that there was no reply."""
        if self.meaning == "refused" and endpoint.is_presumed:
            return failures.nobody_listens(resource, endpoint.url)
        if self.meaning in ("refused", "unreachable"):
            return failures.unreachable(resource, self.reason)
        return (failures.no_answer if self.meaning == "no_answer" else failures.busy)(resource, budget)


def form(resource: str) -> bytes:
    """The body of the request, URL-encoded."""
    return f"resource={quote(resource, safe='')}".encode()


def read_reply(resource: str, reply: Reply, now: float) -> Token | Failure:
    """What a reply means.

    :param resource: what was requested.
    :param now: when the reply came, in Unix time.
    """
    if 300 <= reply.status < 400:
        return failures.redirected(resource, reply.status)
    content, problem = _parse(reply)
    is_success = 200 <= reply.status < 300
    if content is not None:
        is_token = is_success and not content.get("error")
        return read_token(resource, content, now) if is_token else _classify_error(resource, reply, content)
    if is_success:
        return failures.unusable_reply(resource, problem)
    return _classify_error(resource, reply, {"error_description": f"no reason given ({problem})."})


def _parse(reply: Reply) -> tuple[dict[str, object] | None, str]:
    """The JSON object in the body, or None and what is there instead. Content-Type is ignored."""
    content = read_json(reply.body)
    if isinstance(content, dict):
        return content, ""
    if reply.headers.get("content-encoding", "identity") != "identity":
        return None, "it is compressed, which was not asked for"
    if content is not None:
        return None, f"it is a JSON {type(content).__name__}, not an object"
    return None, f"its {len(reply.body)} bytes are not JSON" if reply.body.strip() else "it is empty"


def _classify_error(resource: str, reply: Reply, content: Mapping[str, object]) -> Failure:
    error = content.get("error")
    # Nested as the endpoint sends it, or flat as OAuth does.
    fields, names = content, ("error", "error_description")
    if isinstance(error, dict):
        fields, names = {**content, **error}, ("code", "message")
    code, message = (value if isinstance(value := fields.get(name), str) else "" for name in names)
    tokens = [value for name, value in fields.items() if name.endswith("_token") and isinstance(value, str) and value]
    # A token that came beside the error may be quoted in it. Many tokens are not looked for.
    if len(tokens) > 8 or any(token in f"{code} {message}" for token in tokens):
        code = message = "[redacted]"
    if code == "AudienceNotSupported":
        _, _, listed = message.partition("Supported audiences:")
        supported = [quoted(name, 200) for name in listed.split(",")[:200] if name.strip()]
        known = not message or "is not a supported MSI token audience" in message
        return failures.audience_not_supported(resource, tuple(supported), "" if known else quoted(message))
    said = sentence(quoted(f"({code}) {message}" if code else message or "no reason given"))
    code = quoted(code, 100)
    if _ENTRA.search(f"{code} {message}"):
        return failures.entra_refused(resource, code, said)
    if message.startswith("Timeout waiting for token from portal"):
        return failures.portal_timeout(resource, code, _retry_after(reply) or 0.0, said)
    return failures.endpoint_error(resource, reply.status, code, _retry_after(reply), said)


def _retry_after(reply: Reply) -> float | None:
    """The seconds that ``Retry-After`` asks for, 0 without a usable one; None if asking again is no use."""
    if reply.status not in (400, 429) and reply.status < 500:
        return None
    value = reply.headers.get("retry-after", "").strip()
    return float(value) if _NUMBER.fullmatch(value) else 0.0
