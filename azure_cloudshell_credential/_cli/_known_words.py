"""The words that a report may hold. Everything else that an endpoint says is replaced by its length.

A list of what is known, not of what to remove: nobody can foresee where an endpoint puts a name, an address or an id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

from .._endpoint import audiences
from .._endpoint.environment import MARKERS
from .._serving.variables import OF_THIS_MACHINE
from ..emulator._questions import Echo, Question, Remaining
from ..emulator.behaviour import assumptions

# Headers, and variables of Cloud Shell.
_NAMES = """
    cache-control connection content-length content-type date etag keep-alive server transfer-encoding vary
    x-content-type-options x-ms-request-id x-powered-by
    ACC_CLUSTER ACC_LOCATION ACC_OID ACC_PUID ACC_STORAGE_PROFILE ACC_TERM_ID ACC_TID ACC_VERSION
    AZD_SKIP_UPDATE_CHECK AZURE_HTTP_USER_AGENT POWERSHELL_UPDATECHECK
"""

# Codes of OAuth and of Azure, media types, and words of which the errors of such a service are made.
_WORDS = """
    access_denied consent_required interaction_required internal_error invalid_client invalid_grant invalid_request
    invalid_resource invalid_scope login_required not_found server_error temporarily_unavailable unauthorized_client
    BadRequest Forbidden InternalServerError NotFound TooManyRequests Unauthorized
    application/json text/html text/plain charset=utf-8 client_id ext_expires_in id_token scope error
    a access again an and are be been browser by cannot code could credential directory does error expired failed for
    found from has have header in invalid is it login message must no not of on or parameter path please portal request
    resource response server session shell sign signed supported tenant that the this time timeout to token try user
    was when with
    Authentication Cloud Error Failed Invalid Missing No Session Shell The Token Unauthorized
"""
_LONGEST_NUMBER = 1_000_000
_EDGE = r"\s\"'()\[\]{},:;<>=|"


def shown(value: object, question: Question | None = None) -> str | int | None:
    """What a field of ``Behaviour`` is, or what was seen instead, as a report has it: in one line.

    :param question: what was asked: the resource is filled in.
    """
    if value is None or isinstance(value, int):
        return value
    text = " ".join(value) if isinstance(value, tuple) else str(value)
    return text.replace("{resource}", (question.resource if question else None) or "{resource}")


def _pieces() -> Iterator[str]:
    for audience in audiences.KNOWN:
        for identifier in audience.identifiers:
            yield from (identifier, identifier.rstrip("/"), f"{identifier.rstrip('/')}/")
    for each in assumptions():
        for assumed in (shown(each.assumed), shown(each.assumed, each.question)):
            yield str(assumed)
            yield from (word.rstrip(".:") for word in str(assumed).split() if not word[0].isdigit())
    yield from (*get_args(Echo), *get_args(Remaining), "missing", "number")
    yield from (*MARKERS, *OF_THIS_MACHINE, *_NAMES.split(), *_WORDS.split())


_KNOWN = re.compile(
    rf"(?:(?<=[{_EDGE}])|^)"
    rf"(?:{'|'.join(map(re.escape, sorted(set(_pieces()) - {''}, key=len, reverse=True)))}|AADSTS\d{{4,7}}|[1-5]\d\d)"
    rf"(?=[{_EDGE}]|\.?(?:\s|$))"
)


def allowed(value: str | int | None) -> str | int | None:
    """A value of the endpoint's as it may be shown: known words, and the length of everything else."""
    if isinstance(value, int):
        return value if abs(value) < _LONGEST_NUMBER else f"<{len(str(value))}>"
    if value is None:
        return None
    shown, at = [], 0
    for match in _KNOWN.finditer(value):
        shown += [_length(value[at : match.start()]), match[0]]
        at = match.end()
    return " ".join("".join([*shown, _length(value[at:])]).split())


def _length(text: str) -> str:
    """A stretch of unknown text: its length, between the punctuation around it."""
    start, core, end = re.fullmatch(rf"([{_EDGE}.]*)(.*?)([{_EDGE}.]*)", text, re.DOTALL | re.ASCII).groups()  # type: ignore[union-attr]
    return f"{start}<{len(core)}>{end}" if core else start + end
