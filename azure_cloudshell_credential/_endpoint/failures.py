"""What can keep Cloud Shell from issuing a token, and the words for it.

Each row of the table "what happens when" is one entry of ``failures.json``, so that its wording stands in one place for
the credential, its asynchronous version and the command line. A failure is a plain value: it holds no reply, no token
and no traceback. ``_azure/errors`` turns it into the exception a caller sees. Text from the endpoint is made one
printable line here, on its way into a failure and not later: nothing that is shown can move a cursor or forge a second
line.
"""

from __future__ import annotations

import json
import re
from binascii import b2a_base64

TRANSIENT = frozenset({"refused", "busy", "timeout", "portal", "endpoint", "reply", "wrong_resource"})
"""The kinds of failures that say nothing about the next request."""

# By the loader: see audiences.
_TABLE = json.loads(__loader__.get_data(__file__.rpartition(".")[0] + ".json"))  # type: ignore[name-defined]

SIGN_IN: str = _TABLE["phrases"]["sign_in"]
"""For the middle of a sentence. Cloud Shell's az starts signed in, by the same endpoint."""


class Failure:
    """Why there is no token.

    :param kind: a word for programs: ``not_cloud_shell``, ``scope``, ``refused``, ``busy``, ``nested``, ``timeout``,
        ``portal``, ``audience``, ``entra``, ``endpoint``, ``reply``, ``wrong_resource``, ``claims``, ``tenant``,
        ``pop``, ``error``, ``identity`` or ``chain``.
    :param what: what happened, a sentence without advice.
    :param advice: what to do next for a user of ``CloudShellCredential``, a sentence. Others give their own, by kind.
    :param resource: the resource requested.
    :param code: the endpoint's own code for the error, such as ``AudienceNotSupported``; empty if it gave none.
    :param retry_after: the seconds after which asking again may help, 0 where the endpoint names none; None: never.
    """

    def __init__(
        self, kind: str, what: str, advice: str, resource: str = "", code: str = "", retry_after: float | None = None
    ) -> None:
        self.kind = kind
        self.what = printable(what)
        self.advice = printable(advice)
        self.resource = resource
        self.code = code
        self.retry_after = retry_after
        self.supported_audiences: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """What happened and what to do about it."""
        return f"{self.what} {self.advice}".rstrip()

    def __repr__(self) -> str:
        return f"Failure({self.kind!r}, {self.message!r})"


def failure(name: str, resource: str = "", code: str = "", retry_after: float | None = None, **said: object) -> Failure:
    """A failure in the words of ``failures.json``.

    :param name: its name there.
    :param resource, code, retry_after: as ``Failure`` has them.
    :param said: what its sentences leave open. A number is one of seconds.
    """
    entry = _TABLE["failures"][name]
    words = {name: duration(word) if isinstance(word, (int, float)) else word for name, word in said.items()}
    what, advice = (entry[part].format(resource=resource, **_TABLE["phrases"], **words) for part in ("what", "advice"))
    return Failure(entry["kind"], what, advice, resource, code, retry_after)


def not_in_cloud_shell(refusal: str | None, other_host: str | None = None) -> Failure:
    """No endpoint: the environment does not look like Cloud Shell, or names an endpoint that is not Cloud Shell's.

    :param refusal: why the environment's endpoint is not used.
    :param other_host: the variable that makes the environment's endpoint another service's.
    """
    if refusal:
        return failure("unusable_endpoint", reason=refusal)
    return failure("another_service", variable=other_host) if other_host else failure("not_cloud_shell")


def audience_not_supported(resource: str, supported: tuple[str, ...], said: str = "") -> Failure:
    """The resource is not on Cloud Shell's list, or a broker before Cloud Shell says why it has no token."""
    listing = f" It supports: {', '.join(supported)}." if supported else f" {sentence(said)}" if said else ""
    refused = failure("audience_not_supported", resource, "AudienceNotSupported", said=listing)
    refused.supported_audiences = supported
    return refused


def claims_advice(claims: str, tenant_id: str | None = None) -> str:
    """The command that satisfies a claims challenge, ready to paste."""
    # az takes the challenge the way services send it, base64-encoded.
    encoded = b2a_base64(claims.encode(), newline=False).decode()
    return f"Run az login --claims-challenge {encoded}" + (f" --tenant {tenant_id}" if tenant_id else "")


def count(number: float, unit: str) -> str:
    """A number with its unit, in the plural where English has one."""
    text = f"{number:.3g}" if number < 1000 else f"{number:.0f}"
    return f"{text} {unit}" if text == "1" else f"{text} {unit}s"


def duration(seconds: float) -> str:
    """So many seconds, in words."""
    if seconds < 300:
        return count(seconds, "second")
    return count(round(seconds / 60, 1), "minute") if seconds < 7200 else count(round(seconds / 3600, 1), "hour")


# What looks like a token: a JWT, base64 longer than any name in Azure, or a shorter piece of it that is a word of its
# own. Not the label of a host name nor the segment of a path, and not the challenge in a command to paste.
_TOKEN_LIKE = re.compile(
    r"""(?P<command>--claims-challenge ["']?[\w+/=-]+(?![\w+/=.-]))"""
    r"|(?<![\w-])eyJ[\w-]*\.[\w-]+(?:\.[\w-]*){0,3}"
    r"|[\w+=~-]{128,}|(?<![\w+/=~.-])[\w+=~-][\w+/=~-]{47,}(?![\w+/=~-]|\.\w)",
    re.ASCII,
)


def printable(text: str) -> str:
    """The text as one line of printable characters."""
    if text.isprintable():
        return text
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def redacted(text: str) -> str:
    """The text without anything that looks like a token."""
    return _TOKEN_LIKE.sub(lambda match: match["command"] or "[redacted]", text)


def quoted(text: str, limit: int = 400) -> str:
    """What the endpoint said, fit to be shown: one line, bounded, nothing in it that looks like a token."""
    line = redacted(" ".join(printable(text[: 4 * limit]).split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def sentence(text: str) -> str:
    """The text with a full stop, unless it ends a sentence already."""
    return text if text.endswith((".", "!", "?", "…")) else text + "."
