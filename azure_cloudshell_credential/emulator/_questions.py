"""What an endpoint can be asked, and how its answer is read: for ``behaviour``, and for ``doctor --report``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from .._endpoint.environment import PATHS
from .._endpoint.untrusted_json import read_json

ARM = "https://management.azure.com/"
REFUSED = "https://azconfig.io/"
"""A resource that the endpoint is known to refuse (CloudShell#477)."""

TOKEN_PATH, VM_PATH = PATHS

Echo = Literal["as it was asked for", "another spelling", "something else"]
Remaining = Literal["what is left", "the whole lifetime", "something else"]

_CLOCK_SECONDS = 2


class Question(NamedTuple):
    """A request to the endpoint.

    :param metadata: the ``Metadata`` header; None: without.
    :param resource: None: without.
    :param is_form: whether a body is labelled as a form.
    :param is_chunked: whether a body is sent in chunks.
    :param more: further fields.
    :param repeats: asked only to see the second answer.
    """

    method: str = "POST"
    path: str = TOKEN_PATH
    metadata: str | None = "true"
    resource: str | None = ARM
    is_form: bool = True
    is_chunked: bool = False
    more: tuple[tuple[str, str], ...] = ()
    repeats: bool = False


@dataclass(frozen=True)
class Outcome:
    """What comes of a request: a token, or an error in the endpoint's form.

    :param message: ``{resource}`` in it stands for the resource asked for. Empty, as the code: not known.
    """

    status: int
    code: str = ""
    message: str = ""

    def __str__(self) -> str:
        if self == GRANTED:
            return "a token"
        return f"{self.status} {self.code}: {self.message}" if self.code else str(self.status)


GRANTED = Outcome(200)


class Answer(NamedTuple):
    """What the endpoint answered.

    :param headers: with names in lower case.
    :param claims: of the token, if there is one.
    :param at: when, in Unix time.
    :param before: the answer to the same question, asked before.
    """

    question: Question
    status: int
    headers: Mapping[str, str]
    body: bytes
    claims: Mapping[str, Any]
    at: float
    before: Answer | None = None

    @property
    def content(self) -> dict[str, Any]:
        """The JSON object in the body; empty if there is none."""
        content = read_json(self.body)
        return content if isinstance(content, dict) else {}

    @property
    def error(self) -> tuple[str, str]:
        """The code and message of a nested error; empty if there is none."""
        error = self.content.get("error")
        fields = error if isinstance(error, dict) else {}
        return str(fields.get("code", "")), str(fields.get("message", ""))

    def number(self, name: str) -> int | None:
        """A field that is a number, or a string that holds one."""
        try:
            return int(self.content[name])
        except (KeyError, TypeError, ValueError):
            return None


# Each reads from an answer what a field of Behaviour is compared with; None: the answer does not tell.


def outcome(answer: Answer) -> Outcome:
    """What came of a request."""
    if isinstance(answer.content.get("access_token"), str):
        return GRANTED
    code, message = answer.error
    resource = answer.question.resource
    return Outcome(
        answer.status, code, (message.replace(resource, "{resource}") if resource else message) if code else ""
    )


def status_only(answer: Answer) -> Outcome:
    """What came of a request, for one that is refused before it is a request for a token."""
    return GRANTED if outcome(answer) == GRANTED else Outcome(answer.status)


def of_the_portal(answer: Answer) -> Outcome | None:
    """What came of a request, if it came to the portal and no further."""
    return outcome(answer) if "portal" in answer.error[1] else None


def types(answer: Answer) -> tuple[str, ...]:
    """The types of the values."""
    names = {str: "string", int: "number", float: "number"}
    return tuple(sorted({names.get(type(value), "something else") for value in answer.content.values()}))


def echo(answer: Answer) -> Echo:
    """How the resource comes back."""
    given, asked = answer.content.get("resource"), answer.question.resource
    if given == asked:
        return "as it was asked for"
    return "another spelling" if str(given).rstrip("/") == str(asked).rstrip("/") else "something else"


def lifetime(answer: Answer) -> int | None:
    """The seconds from the token's start to its end."""
    expires_on, not_before = answer.number("expires_on"), answer.number("not_before")
    return None if expires_on is None or not_before is None else expires_on - not_before


def is_repeated(answer: Answer) -> bool | None:
    """Whether the token is that of the first answer."""
    first = answer.before.content.get("access_token") if answer.before else None
    return None if first is None else first == answer.content.get("access_token")


def remaining(answer: Answer) -> Remaining | None:
    """What ``expires_in`` says of a token that was not issued just now: then it tells."""
    told, expires_on, whole = answer.number("expires_in"), answer.number("expires_on"), lifetime(answer)
    if told is None or expires_on is None or whole is None:
        return None
    left = expires_on - answer.at
    if abs(whole - left) <= _CLOCK_SECONDS:
        return None
    if abs(told - left) <= _CLOCK_SECONDS:
        return "what is left"
    return "the whole lifetime" if told == whole else "something else"


def is_compact(answer: Answer) -> bool:
    """Whether the JSON has no white space."""
    forms = (json.dumps(answer.content, separators=(",", ":"), ensure_ascii=escapes) for escapes in (True, False))
    return answer.body in [form.encode() for form in forms]
