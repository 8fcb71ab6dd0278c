"""What is assumed of Cloud Shell's token endpoint, each field with its source.

The emulator answers as a ``Behaviour`` says. ``doctor --report`` asks a real endpoint for each field and prints what it
saw beside what is assumed. A field whose source is ``ASSUMED`` is the authors' guess; a report from a live Cloud Shell
is what it waits for.

Sources are issues and pull requests on GitHub (``OWNER/REPOSITORY#NUMBER``; without an owner, of Azure's) or pages of
learn.microsoft.com.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, TypeVar

from . import _questions as read
from ._questions import ARM, GRANTED, REFUSED, TOKEN_PATH, VM_PATH, Answer, Echo, Outcome, Question, Remaining

T = TypeVar("T")

ASSUMED = "assumed"
"""The source of what nobody has seen."""

_PLAIN = Question()
_AGAIN = Question(repeats=True)


def _does(assumed: T, source: str, question: Question | None, seen_in: Callable[[Answer], T | None]) -> T:
    """A field.

    :param source: where it was seen, or ``ASSUMED``.
    :param question: the request that shows it; None: it cannot be provoked, and is looked for in every answer.
    :param seen_in: reads from an answer what the endpoint does; None: the answer does not tell.
    """
    probe = {"source": source, "question": question, "seen_in": seen_in}
    value: T = field(default=assumed, metadata=probe)
    return value


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What the endpoint does. The defaults are what is assumed of the real one.

    Where a field is an ``Outcome``, it is that of a request which is odd in the way that the field's name says.
    """

    # The reply with a token.
    token_status: int = _does(200, "azure-cli#14218", _PLAIN, lambda answer: answer.status)
    token_fields: tuple[str, ...] = _does(
        ("access_token", "refresh_token", "expires_in", "expires_on", "not_before", "resource", "token_type"),
        "azure-cli#14218",
        _PLAIN,
        lambda answer: tuple(answer.content),
    )
    token_types: tuple[str, ...] = _does(("string",), "azure-cli#14218", _PLAIN, read.types)
    refresh_token_is_empty: bool = _does(
        True, "azure-cli#14218", _PLAIN, lambda answer: answer.content.get("refresh_token") == ""
    )
    token_type: str = _does(
        "Bearer", "azure-cli#14218", _PLAIN, lambda answer: str(answer.content.get("token_type", "missing"))
    )
    lifetime: int = _does(3900, "azure-cli#14218", _PLAIN, read.lifetime)
    resource_echo: Echo = _does("as it was asked for", ASSUMED, _PLAIN, read.echo)
    content_type: str = _does(
        "application/json; charset=utf-8",
        "azure-powershell#18258",
        _PLAIN,
        lambda answer: answer.headers.get("content-type", "missing"),
    )
    json_is_compact: bool = _does(True, "azure-powershell#18258", _PLAIN, read.is_compact)
    token_is_kept: bool = _does(True, "azure/cloud-shell/msi-authorization", _AGAIN, read.is_repeated)
    expires_in_when_kept: Remaining = _does("what is left", ASSUMED, _AGAIN, read.remaining)
    audience_for_arm_without_slash: str = _does(
        "https://management.core.windows.net/",
        "azure-cli#29313",
        Question(resource=ARM.rstrip("/")),
        lambda answer: str(answer.claims.get("aud", "missing")),
    )

    # Forms of the request.
    get: Outcome = _does(
        GRANTED, "AzureAD/microsoft-authentication-library-for-java#771", Question(method="GET"), read.outcome
    )
    vm_path_get: Outcome = _does(GRANTED, "CloudShell#477", Question(method="GET", path=VM_PATH), read.outcome)
    vm_path_post: Outcome = _does(GRANTED, ASSUMED, Question(path=VM_PATH), read.outcome)
    slash_after_path: Outcome = _does(GRANTED, ASSUMED, Question(path=f"{TOKEN_PATH}/"), read.outcome)
    chunked_body: Outcome = _does(GRANTED, ASSUMED, Question(is_chunked=True), read.outcome)
    body_without_content_type: Outcome = _does(GRANTED, ASSUMED, Question(is_form=False), read.outcome)
    unknown_parameter: Outcome = _does(
        GRANTED,
        "azure-sdk-for-python#22846",
        Question(more=(("client_id", "00000000-0000-0000-0000-000000000000"),)),
        read.outcome,
    )
    metadata_capitalised: Outcome = _does(GRANTED, ASSUMED, Question(metadata="True"), read.outcome)
    audience_with_slash_added: Outcome = _does(
        GRANTED, ASSUMED, Question(resource="https://vault.azure.net/"), read.outcome
    )

    # Errors.
    no_metadata: Outcome = _does(
        Outcome(400, "bad_request_102", "Required metadata header not specified"),
        "go-autorest#612",
        Question(metadata=None),
        read.outcome,
    )
    metadata_false: Outcome = _does(
        Outcome(400, "bad_request_102", "Required metadata header not specified"),
        ASSUMED,
        Question(metadata="false"),
        read.outcome,
    )
    no_resource: Outcome = _does(
        Outcome(400, "invalid_request", "Required audience parameter not specified"),
        ASSUMED,
        Question(resource=None),
        read.outcome,
    )
    unsupported_audience: Outcome = _does(
        Outcome(400, "AudienceNotSupported", "Audience {resource} is not a supported MSI token audience."),
        "CloudShell#477",
        Question(resource=REFUSED),
        read.outcome,
    )
    portal_timeout: Outcome = _does(
        Outcome(400, "invalid_request", "Timeout waiting for token from portal. Audience: {resource}"),
        "azure-cli#29057",
        None,
        read.of_the_portal,
    )
    metadata_folder: Outcome = _does(
        Outcome(404),
        "hashicorp/terraform-provider-azuread#633",
        Question(method="GET", path="/metadata", resource=None),
        read.status_only,
    )
    unknown_path: Outcome = _does(Outcome(404), ASSUMED, Question(path="/nothing", resource=None), read.status_only)
    other_method: Outcome = _does(Outcome(404), ASSUMED, Question(method="PUT"), read.status_only)


class Assumption(NamedTuple):
    """A field of ``Behaviour``, as a report compares it. See ``_does``."""

    name: str
    assumed: Any
    source: str
    question: Question | None
    seen_in: Callable[[Answer], Any]


def assumptions() -> Iterator[Assumption]:
    """What a report asks for and compares, field by field."""
    return (Assumption(each.name, each.default, **each.metadata) for each in fields(Behaviour))
