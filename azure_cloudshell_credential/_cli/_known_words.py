"""The words that a report may hold. Everything else that an endpoint says is replaced by its length.

A list of what is known, not of what to remove: nobody can foresee where an endpoint puts a name, an address or an id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .._endpoint import audiences
from ..emulator import assumptions

_HEADERS = """
    cache-control connection content-length content-type date etag keep-alive server transfer-encoding vary
    x-content-type-options x-ms-request-id x-powered-by
"""
HEADERS = frozenset(_HEADERS.split())

_VARIABLES = """
    ACC_CLOUD ACC_CLUSTER ACC_LOCATION ACC_OID ACC_PUID ACC_STORAGE_PROFILE ACC_TERM_ID ACC_TID ACC_VERSION
    AZD_IN_CLOUDSHELL AZD_SKIP_UPDATE_CHECK AZURE_HTTP_USER_AGENT AZUREPS_HOST_ENVIRONMENT IDENTITY_ENDPOINT
    IDENTITY_HEADER MSI_ENDPOINT MSI_SECRET POWERSHELL_DISTRIBUTION_CHANNEL POWERSHELL_UPDATECHECK
"""
VARIABLES = frozenset(_VARIABLES.split())
"""Those of Cloud Shell and of other hosts of managed identities."""

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


def _pieces() -> Iterator[str]:
    for audience in audiences.KNOWN:
        for identifier in audience.identifiers:
            yield from (identifier, identifier.rstrip("/"), f"{identifier.rstrip('/')}/")
    for row in assumptions.TABLE:
        assumed = str(row.expected())
        yield assumed
        yield from (word.rstrip(".:") for word in assumed.split() if not word[0].isdigit())
    yield from (assumptions.OTHER, assumptions.CANONICAL, assumptions.WHOLE, "a new one", "missing", "number", "none")
    yield from _WORDS.split()


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
