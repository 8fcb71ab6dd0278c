"""What is assumed of Cloud Shell's token endpoint, each row with its source.

The emulator is made from this table: what it answers is what a row says. ``doctor --report`` asks a real endpoint for
each row and prints what it saw beside what is assumed. A row without a source is the authors' guess; a report from a
live Cloud Shell is what it waits for.

Sources are issues and pull requests on GitHub (``OWNER/REPOSITORY#NUMBER``; without an owner, of Azure's) or pages of
learn.microsoft.com.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from .._endpoint.environment import PATHS
from .._endpoint.untrusted_json import read_json

ASSUMED = "assumed"
"""The source of a row that nobody has seen."""

TOKEN = "a token"  # noqa: S105 - an outcome, not a secret
"""The outcome of a request that is granted."""

ARM = "https://management.azure.com/"
REFUSED = "https://azconfig.io/"
"""A resource that the endpoint is known to refuse (CloudShell#477)."""

TOKEN_PATH, VM_PATH = PATHS

LIFETIME = 3900
"""Seconds that a token lives."""

OTHER = "something else"

Value = str | int


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


class Refusal(NamedTuple):
    """An error in the endpoint's form.

    :param message: ``{resource}`` in it stands for the resource asked for. Empty, as the code: not known.
    """

    status: int
    code: str = ""
    message: str = ""

    def filled(self, resource: str | None) -> str:
        """As one line, for a resource."""
        message = self.message.replace("{resource}", resource or "")
        return f"{self.status} {self.code}: {message}" if self.code else str(self.status)


class Assumption(NamedTuple):
    """One row.

    :param name: what it is about.
    :param assumed: an outcome (``TOKEN`` or a ``Refusal``), or what a part of the answer is.
    :param source: where that was seen, or ``ASSUMED``.
    :param question: the request that shows it; None: it cannot be provoked, and is looked for in every answer.
    :param seen_in: reads from an answer what ``assumed`` is compared with; None: the answer does not tell.
    """

    name: str
    assumed: Value | Refusal
    source: str
    question: Question | None
    seen_in: Callable[[Answer], Value | None]

    def expected(self) -> Value:
        """``assumed``, as ``seen_in`` has it."""
        if isinstance(self.assumed, Refusal):
            return self.assumed.filled(self.question.resource if self.question else "")
        return self.assumed


def outcome(answer: Answer) -> str:
    """What came of a request."""
    if isinstance(answer.content.get("access_token"), str):
        return TOKEN
    code, message = answer.error
    return f"{answer.status} {code}: {message}" if code else str(answer.status)


def _status(answer: Answer) -> str:
    return TOKEN if outcome(answer) == TOKEN else str(answer.status)


def _refresh_token(answer: Answer) -> str:
    return EMPTY if answer.content.get("refresh_token", OTHER) == "" else OTHER


def _types(answer: Answer) -> str:
    kinds = {type(value).__name__ for value in answer.content.values()}
    return " ".join(sorted({"str": "string", "int": "number", "float": "number"}.get(kind, OTHER) for kind in kinds))


def _resource(answer: Answer) -> str:
    given, asked = answer.content.get("resource"), answer.question.resource
    if given == asked:
        return AS_ASKED
    return CANONICAL if str(given).rstrip("/") == str(asked).rstrip("/") else OTHER


def _number(answer: Answer, name: str) -> int | None:
    try:
        return int(answer.content[name])
    except (KeyError, TypeError, ValueError):
        return None


def _lifetime(answer: Answer) -> int | None:
    expires_on, not_before = _number(answer, "expires_on"), _number(answer, "not_before")
    return None if expires_on is None or not_before is None else expires_on - not_before


def _repeated(answer: Answer) -> str | None:
    first = answer.before.content.get("access_token") if answer.before else None
    return None if first is None else SAME if first == answer.content.get("access_token") else "a new one"


def _expires_in(answer: Answer) -> str | None:
    told, expires_on, whole = _number(answer, "expires_in"), _number(answer, "expires_on"), _lifetime(answer)
    if told is None or expires_on is None or whole is None:
        return None
    left = expires_on - answer.at
    if abs(whole - left) <= _CLOCK_SECONDS:
        # A token that was issued just now: both are the same number.
        return None
    return LEFT if abs(told - left) <= _CLOCK_SECONDS else WHOLE if told == whole else OTHER


def _audience(answer: Answer) -> str:
    return str(answer.claims.get("aud", "missing"))


def _portal(answer: Answer) -> str | None:
    return outcome(answer).replace(answer.question.resource or "", "") if "portal" in answer.error[1] else None


def _white_space(answer: Answer) -> str:
    forms = (json.dumps(answer.content, separators=(",", ":"), ensure_ascii=escapes) for escapes in (True, False))
    return COMPACT if answer.body in [form.encode() for form in forms] else OTHER


_CLOCK_SECONDS = 2
AS_ASKED, CANONICAL = "as it was asked for", "another spelling"
SAME, LEFT, WHOLE = "the same token", "what is left", "the whole lifetime"
EMPTY = "empty"
COMPACT = "without white space"
CONTENT_TYPE = "application/json; charset=utf-8"

_PLAIN = Question()
_AGAIN = Question(repeats=True)
_BAD_REQUEST = Refusal(400, "bad_request_102", "Required metadata header not specified")

TABLE: tuple[Assumption, ...] = (
    # The reply with a token.
    Assumption("token: status", 200, "azure-cli#14218", _PLAIN, lambda answer: answer.status),
    Assumption(
        "token: fields",
        "access_token refresh_token expires_in expires_on not_before resource token_type",
        "azure-cli#14218",
        _PLAIN,
        lambda answer: " ".join(answer.content),
    ),
    Assumption("token: types of the values", "string", "azure-cli#14218", _PLAIN, _types),
    Assumption("token: refresh_token", EMPTY, "azure-cli#14218", _PLAIN, _refresh_token),
    Assumption(
        "token: token_type",
        "Bearer",
        "azure-cli#14218",
        _PLAIN,
        lambda answer: str(answer.content.get("token_type", "missing")),
    ),
    Assumption("token: lifetime in seconds", LIFETIME, "azure-cli#14218", _PLAIN, _lifetime),
    Assumption("token: resource", AS_ASKED, ASSUMED, _PLAIN, _resource),
    Assumption(
        "content type",
        CONTENT_TYPE,
        "azure-powershell#18258",
        _PLAIN,
        lambda answer: answer.headers.get("content-type", "missing"),
    ),
    Assumption("JSON", COMPACT, "azure-powershell#18258", _PLAIN, _white_space),
    Assumption("token asked for again", SAME, "azure/cloud-shell/msi-authorization", _AGAIN, _repeated),
    Assumption("token asked for again: expires_in", LEFT, ASSUMED, _AGAIN, _expires_in),
    Assumption(
        "audience of the token for https://management.azure.com",
        "https://management.core.windows.net/",
        "azure-cli#29313",
        Question(resource="https://management.azure.com"),
        _audience,
    ),
    # Forms of the request.
    Assumption("GET", TOKEN, "AzureAD/microsoft-authentication-library-for-java#771", Question(method="GET"), outcome),
    Assumption("path of virtual machines", TOKEN, "CloudShell#477", Question(method="GET", path=VM_PATH), outcome),
    Assumption("path of virtual machines: POST", TOKEN, ASSUMED, Question(path=VM_PATH), outcome),
    Assumption("slash at the end of the path", TOKEN, ASSUMED, Question(path=f"{TOKEN_PATH}/"), outcome),
    Assumption("body in chunks", TOKEN, ASSUMED, Question(is_chunked=True), outcome),
    Assumption("body without a content type", TOKEN, ASSUMED, Question(is_form=False), outcome),
    Assumption(
        "unknown parameter",
        TOKEN,
        "azure-sdk-for-python#22846",
        Question(more=(("client_id", "00000000-0000-0000-0000-000000000000"),)),
        outcome,
    ),
    Assumption("Metadata: True", TOKEN, ASSUMED, Question(metadata="True"), outcome),
    Assumption("audience with a slash added", TOKEN, ASSUMED, Question(resource="https://vault.azure.net/"), outcome),
    # Errors.
    Assumption("no Metadata header", _BAD_REQUEST, "go-autorest#612", Question(metadata=None), outcome),
    Assumption("Metadata: false", _BAD_REQUEST, ASSUMED, Question(metadata="false"), outcome),
    Assumption(
        "no resource",
        Refusal(400, "invalid_request", "Required audience parameter not specified"),
        ASSUMED,
        Question(resource=None),
        outcome,
    ),
    Assumption(
        "unsupported audience",
        Refusal(400, "AudienceNotSupported", "Audience {resource} is not a supported MSI token audience."),
        "CloudShell#477",
        Question(resource=REFUSED),
        outcome,
    ),
    Assumption(
        "portal does not answer",
        Refusal(400, "invalid_request", "Timeout waiting for token from portal. Audience: {resource}"),
        "azure-cli#29057",
        None,
        _portal,
    ),
    Assumption(
        "GET /metadata",
        Refusal(404),
        "hashicorp/terraform-provider-azuread#633",
        Question(method="GET", path="/metadata", resource=None),
        _status,
    ),
    Assumption("unknown path", Refusal(404), ASSUMED, Question(path="/nothing", resource=None), _status),
    Assumption("method other than GET and POST", Refusal(404), ASSUMED, Question(method="PUT"), _status),
)


def by_name(table: tuple[Assumption, ...] = TABLE) -> dict[str, Value | Refusal]:
    """What is assumed, by the names of the rows."""
    return {row.name: row.assumed for row in table}


def rows_for(method: str, path: str, headers: Mapping[str, str], fields: Mapping[str, str]) -> Iterator[str]:
    """The rows that say what comes of a request, in the order in which the emulator looks at them.

    :param headers: with names in lower case.
    """
    yield from _rows_for_the_target(method, path)
    metadata = headers.get("metadata")
    if metadata is None:
        yield "no Metadata header"
    elif metadata != "true":
        yield "Metadata: True" if metadata.lower() == "true" else "Metadata: false"
    if "transfer-encoding" in headers:
        yield "body in chunks"
    if method == "POST" and "content-type" not in headers:
        yield "body without a content type"
    if not fields.get("resource"):
        yield "no resource"
    if fields.keys() - {"resource", "api-version"}:
        yield "unknown parameter"


def _rows_for_the_target(method: str, path: str) -> Iterator[str]:
    known_path = path.removesuffix("/")
    if known_path not in (TOKEN_PATH, VM_PATH):
        yield "GET /metadata" if path == "/metadata" else "unknown path"
    if method not in ("GET", "POST"):
        yield "method other than GET and POST"
    if path.endswith("/"):
        yield "slash at the end of the path"
    if known_path == VM_PATH:
        yield "path of virtual machines" if method == "GET" else "path of virtual machines: POST"
    elif method == "GET":
        yield "GET"
