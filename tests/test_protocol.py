"""Scopes, replies and the decision to ask again, as data."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from azure_cloudshell_credential import _protocol
from azure_cloudshell_credential._failures import Failure, quotable
from azure_cloudshell_credential._protocol import (
    Ask,
    NoReply,
    Patience,
    Pause,
    Reply,
    Token,
    acquire,
    claims_of,
    form,
    read_reply,
    scope_to_resource,
)

from .conftest import CANARY, SECRET

NOW = 1_800_000_000.5
ARM = "https://management.azure.com/"
GUID = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"


@pytest.mark.parametrize(
    ("scope", "resource"),
    [
        ("https://management.azure.com/.default", "https://management.azure.com"),
        ("https://management.azure.com//.default", "https://management.azure.com/"),
        ("https://management.azure.com/", "https://management.azure.com/"),
        ("https://management.azure.com", "https://management.azure.com"),
        (GUID, GUID),
        (f"{GUID}/.default", GUID),
        (f"{GUID}/user_impersonation", GUID),
        ("https://graph.microsoft.com/User.Read", "https://graph.microsoft.com"),
        ("https://management.azure.com/user_impersonation", "https://management.azure.com"),
        ("https://management.azure.com//user_impersonation", "https://management.azure.com/"),
        ("https://analysis.windows.net/powerbi/api", "https://analysis.windows.net/powerbi/api"),
        ("https://analysis.windows.net/powerbi/api/.default", "https://analysis.windows.net/powerbi/api"),
        ("https://analysis.windows.net/powerbi/api/Dataset.Read.All", "https://analysis.windows.net/powerbi/api"),
        ("https://api.fabric.microsoft.com/deep/path/.default", "https://api.fabric.microsoft.com/deep/path"),
        ("api://guid/access_as_user", "api://guid"),
        ("api://guid", "api://guid"),
        ("https://x.example/app/", "https://x.example/app/"),
        ("urn:ms-drs:enterpriseregistration.windows.net", "urn:ms-drs:enterpriseregistration.windows.net"),
        ("https://x.example/.defaultish", "https://x.example"),
        ("User.Read", "User.Read"),
        ("https://x.example/y://z/scope", "https://x.example/y://z"),
        ("https://a/b", "https://a"),
        ("a/b", "a"),
        ("https://x", "https://x"),
        ("https:///x", "https:///x"),
        ("https://x.example/.default/.default", "https://x.example/.default"),
        ("https://x.example/.default/y", "https://x.example/.default"),
    ],
)
def test_a_scope_means_a_resource(scope: str, resource: str) -> None:
    assert scope_to_resource((scope,)) == resource


@pytest.mark.parametrize(
    ("scopes", "message"),
    [
        ((), "Cloud Shell issues a token for exactly one scope per request."),
        (("a", "b"), "Cloud Shell issues a token for exactly one scope per request."),
        (("",), "A scope must be a non-empty string without white space or control characters."),
        (("a b",), "A scope must be a non-empty string without white space or control characters."),
        ((None,), "A scope must be a non-empty string without white space or control characters."),
        (("/.default",), "The scope '/.default' names no resource."),
    ],
)
def test_a_wrong_scope_is_explained(scopes: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        scope_to_resource(scopes)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_default_is_stripped_and_nothing_else_touched(resource: str) -> None:
    assert scope_to_resource((f"{resource}/.default",)) == resource


@given(st.one_of(st.text(), st.none(), st.integers(), st.binary()))
def test_a_scope_is_a_resource_or_a_value_error(scope: Any) -> None:
    try:
        resource = scope_to_resource((scope,))
    except ValueError:
        return
    assert resource
    assert scope.startswith(resource)


@pytest.mark.parametrize(
    ("resource", "body"),
    [(ARM, b"resource=https%3A%2F%2Fmanagement.azure.com%2F"), ("a b&c=d+ü~", b"resource=a%20b%26c%3Dd%2B%C3%BC~")],
)
def test_the_form_is_urlencoded(resource: str, body: bytes) -> None:
    assert form(resource) == body


def jwt(**claims: object) -> str:
    parts = [{"alg": "none"}, claims]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def ok(**changes: object) -> Reply:
    content: dict[str, object] = {"access_token": CANARY, "expires_on": str(int(NOW) + 3600)} | changes
    return Reply(200, {}, json.dumps({key: value for key, value in content.items() if value is not ...}).encode())


def read(reply: Reply, resource: str = ARM) -> Token | Failure:
    return read_reply(resource, reply, NOW)


@pytest.mark.parametrize(
    ("times", "expires_on"),
    [
        ({"expires_on": "1800003600"}, 1800003600),
        ({"expires_on": 1800003600}, 1800003600),
        ({"expires_on": 1800003600.9}, 1800003600),
        ({"expires_on": "1800003600", "expires_in": "3900"}, 1800003600),
        ({"expires_on": "1800003600", "expires_in": 0}, 1800003600),
        ({"expires_on": ..., "expires_in": "3900"}, 1800003900),
        ({"expires_on": None, "expires_in": 3900}, 1800003900),
        ({"expires_on": "", "expires_in": "3900"}, 1800003900),
    ],
)
def test_expiry_comes_as_strings_or_numbers(times: dict[str, object], expires_on: int) -> None:
    token = read(ok(**times))
    assert isinstance(token, Token)
    assert token.expires_on == expires_on


@pytest.mark.parametrize(
    "times",
    [
        {"expires_on": ...},
        {"expires_on": "soon"},
        {"expires_on": "-1800003600"},
        {"expires_on": -1},
        {"expires_on": True},
        {"expires_on": []},
        {"expires_on": "1" * 5000},
        {"expires_on": "１８００００３６００"},
        {"expires_on": float("nan")},
        {"expires_on": float("inf")},
        {"expires_on": 1e300},
        {"expires_on": "1800003600", "expires_in": "nonsense"},
        {"expires_on": str(int(NOW))},
        {"expires_on": str(int(NOW) - 1)},
        {"expires_on": ..., "expires_in": "0"},
        {"expires_on": str(int(NOW) * 1000)},
    ],
)
def test_a_missing_or_nonsensical_expiry_is_no_token(times: dict[str, object]) -> None:
    # The token's own exp is not a substitute.
    failure = read(ok(access_token=jwt(exp=int(NOW) + 3600), **times))
    assert isinstance(failure, Failure)
    assert failure.kind == "reply"


@pytest.mark.parametrize(("life", "refresh_in"), [(7199, None), (7200, 3600), (7201, 3600), (28800, 14400)])
def test_long_lived_tokens_are_refreshed_at_half_their_life(life: int, refresh_in: int | None) -> None:
    token = read(ok(expires_on=int(NOW) + life))
    assert isinstance(token, Token)
    assert token.refresh_on == (None if refresh_in is None else int(NOW) + refresh_in)


@pytest.mark.parametrize(
    ("asked", "received", "is_wrong"),
    [
        (ARM, "https://management.core.windows.net/", False),
        (ARM, "https://management.core.windows.net", False),
        (ARM, "797F4846-BA00-4FD7-BA43-DAC1F8F63013", False),
        ("https://graph.microsoft.com", "00000003-0000-0000-c000-000000000000", False),
        (ARM, "https://graph.windows.net/", True),
        ("https://graph.microsoft.com", "https://graph.windows.net", True),
        ("https://vault.azure.net", ARM, True),
        (ARM, "https://unknown.example/", False),
        ("https://unknown.example/", ARM, False),
        (ARM, ["https://graph.windows.net/"], False),
        (ARM, None, False),
    ],
)
def test_a_token_is_wrong_when_it_is_positively_for_another_resource(
    asked: str, received: object, is_wrong: bool
) -> None:
    outcome = read(ok(access_token=jwt(aud=received)), asked)
    assert isinstance(outcome, Failure) == is_wrong
    if isinstance(outcome, Failure):
        assert outcome.kind == "wrong_resource"


def test_the_tenant_is_read_from_the_token() -> None:
    for claims, tenant_id in (({"tid": "t"}, "t"), ({"tid": ""}, None), ({"tid": 7}, None), ({}, None)):
        token = read(ok(access_token=jwt(**claims)))
        assert isinstance(token, Token)
        assert token.tenant_id == tenant_id


@pytest.mark.parametrize(
    ("status", "content", "kind", "may_pass"),
    [
        (400, {"error": {"code": "AudienceNotSupported", "message": "no"}}, "audience", False),
        (200, {"error": {"code": "AudienceNotSupported", "message": "no"}}, "audience", False),
        (400, {"error": {"code": "x", "message": "AADSTS50076: mfa"}}, "entra", False),
        (400, {"error": {"code": "interaction_required", "message": "mfa"}}, "entra", False),
        (400, {"error": "interaction_required", "error_description": "mfa"}, "entra", False),
        (400, {"error": {"code": "x", "message": "Timeout waiting for token from portal. A"}}, "portal", True),
        (400, {"error": {"code": "x", "message": "y"}}, "endpoint", True),
        (400, {"error": None}, "endpoint", True),
        (400, {"error": {"code": 7, "message": []}}, "endpoint", True),
        (400, {}, "endpoint", True),
        (400, [], "endpoint", True),
        (401, {"error": {"code": "x", "message": "y"}}, "endpoint", False),
        (429, {}, "endpoint", True),
        (500, {}, "endpoint", True),
        (504, None, "endpoint", True),
        (204, None, "reply", False),
        (301, {}, "endpoint", False),
    ],
)
def test_errors_are_told_apart(status: int, content: object, kind: str, may_pass: bool) -> None:
    failure = read(Reply(status, {}, b"" if content is None else json.dumps(content).encode()))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.may_pass) == (kind, may_pass)


@pytest.mark.parametrize("nested", [False, True])
def test_an_error_that_quotes_the_token_is_redacted(nested: bool) -> None:
    error = {"code": CANARY, "message": f"Cannot use {CANARY}"}
    content = {"error": {**error, "access_token": CANARY}} if nested else {"error": error, "access_token": CANARY}
    failure = read(Reply(400, {}, json.dumps(content).encode()))
    assert isinstance(failure, Failure)
    assert CANARY not in failure.message
    assert "([redacted]) Cannot use [redacted]." in failure.message


def test_the_listed_audiences_are_read() -> None:
    # Quoted from Azure/CloudShell#109, #155 and #351, shortened.
    message = (
        "Audience https://x.example is not a supported MSI token audience. "
        "Supported audiences: https://management.core.windows.net/,https://vault.azure.net"
    )
    failure = read(Reply(400, {}, json.dumps({"error": {"code": "AudienceNotSupported", "message": message}}).encode()))
    assert isinstance(failure, Failure)
    assert failure.supported_audiences == ("https://management.core.windows.net/", "https://vault.azure.net")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"error": {"code": "c", "message": "m"}}, "(c) m."),
        ({"error": {"code": "c"}}, "(c)."),
        ({"error": {"message": "m!"}}, "m!"),
        ({"error": {"code": 7, "message": []}}, "no reason given."),
        ({"error": {}}, "no reason given."),
        ({"error": "c", "error_description": "m"}, "(c) m."),
        ({"error": None}, "no reason given."),
        ({}, "no reason given."),
    ],
)
def test_what_the_endpoint_said_is_passed_on(content: object, said: str) -> None:
    failure = read(Reply(403, {}, json.dumps(content).encode()))
    assert isinstance(failure, Failure)
    assert failure.what == f"The Cloud Shell token endpoint answered 403 when asked for a token for {ARM}: {said}"


def test_a_body_without_json_is_described() -> None:
    for body, said in (
        (b"", "it is empty"),
        (b"<p>", "its 3 bytes are not JSON"),
        (b"[]", "it is a JSON list, not an"),
    ):
        failure = read(Reply(500, {}, body))
        assert isinstance(failure, Failure)
        assert f"no reason given ({said}" in failure.what


@pytest.mark.parametrize(
    ("coding", "is_token"),
    [("identity", True), ("IDENTITY", True), ("", True), (" ", True), ("gzip", False), ("identity, gzip", False)],
)
def test_a_compressed_reply_is_not_read(coding: str, is_token: bool) -> None:
    outcome = read(Reply(200, {"content-encoding": coding}, ok().body))
    assert isinstance(outcome, Token) == is_token
    if isinstance(outcome, Failure):
        assert outcome.what.endswith("cannot be used: it is compressed, which was not asked for.")


@pytest.mark.parametrize(
    ("status", "what"),
    [
        (299, None),
        (300, f"answered 300, a redirect, when asked for a token for {ARM}; redirects are never followed."),
        (399, f"answered 399, a redirect, when asked for a token for {ARM}; redirects are never followed."),
        (400, f"answered 400 when asked for a token for {ARM}: no reason given."),
        (199, f"answered 199 when asked for a token for {ARM}: no reason given."),
    ],
)
def test_the_bounds_of_statuses(status: int, what: str | None) -> None:
    outcome = read(Reply(status, {}, ok().body))
    assert isinstance(outcome, Token) == (what is None)
    if isinstance(outcome, Failure):
        assert outcome.what == f"The Cloud Shell token endpoint {what}"
    outcome = read(Reply(status, {}, b"<html>"))
    assert isinstance(outcome, Failure)
    if 300 <= status < 400:
        assert "redirect" in outcome.what
    elif status >= 400:
        assert f"answered {status} when asked" in outcome.what


def test_a_reply_that_is_not_an_object_says_so() -> None:
    failure = read(Reply(200, {}, b"[1]"))
    assert isinstance(failure, Failure)
    assert failure.what.endswith("cannot be used: it is a JSON list, not an object.")


def test_what_entra_said_is_passed_on() -> None:
    failure = read(Reply(400, {}, b'{"error":{"code":"c","message":"AADSTS1: no"}}'))
    assert isinstance(failure, Failure)
    assert failure.what == f"Microsoft Entra ID did not issue a token for {ARM}: (c) AADSTS1: no."


def test_a_denied_audience_is_named() -> None:
    failure = read(Reply(400, {}, b'{"error":{"code":"AudienceNotSupported","message":"no"}}'))
    assert isinstance(failure, Failure)
    assert failure.what == f"Cloud Shell does not hand out tokens for {ARM} (AudienceNotSupported)."


def test_the_wrong_resource_is_named() -> None:
    failure = read(ok(access_token=jwt(aud="https://graph.windows.net/")))
    assert isinstance(failure, Failure)
    assert failure.what == (
        f"The Cloud Shell token endpoint answered a request for {ARM} with a token for https://graph.windows.net/."
    )


def test_the_portals_silence_is_passed_on() -> None:
    failure = read(PORTAL)
    assert isinstance(failure, Failure)
    assert failure.what == (
        f"Cloud Shell did not get a token for {ARM} from the Azure portal in your browser: "
        "(invalid_request) Timeout waiting for token from portal."
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"access_token": ...}, "it holds no access token"),
        ({"access_token": "a b"}, "its access token is not one line of visible ASCII"),
        ({"token_type": "mac"}, "its token is not a bearer token"),
        ({"token_type": 7}, "its token is not a bearer token"),
        ({"expires_on": ...}, "it does not say when the token expires"),
        ({"expires_on": 10**400}, "its token expires impossibly late"),
        ({"expires_on": 1}, "its token has already expired"),
    ],
)
def test_the_reason_why_a_reply_cannot_be_used(changes: dict[str, object], reason: str) -> None:
    failure = read(ok(**changes))
    assert isinstance(failure, Failure)
    assert failure.what == f"The Cloud Shell token endpoint's answer for {ARM} cannot be used: {reason}."


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER", ...])
def test_a_bearer_token_is_one_in_any_case(token_type: object) -> None:
    assert isinstance(read(ok(token_type=token_type)), Token)


@pytest.mark.parametrize(("life", "is_token"), [(0, False), (1, True), (366 * 86400, True), (366 * 86400 + 1, False)])
def test_the_bounds_of_a_life(life: int, is_token: bool) -> None:
    assert isinstance(read(ok(expires_on=int(NOW) + life)), Token) == is_token


def test_a_long_list_of_audiences_is_cut() -> None:
    names = ["x" * 300, "https://a.example.", *(f"https://{index}.example" for index in range(300))]
    message = f"No. Supported audiences: {', '.join(names)}, ,"
    failure = read(Reply(400, {}, json.dumps({"error": {"code": "AudienceNotSupported", "message": message}}).encode()))
    assert isinstance(failure, Failure)
    assert len(failure.supported_audiences) == 200
    assert failure.supported_audiences[:3] == ("[redacted]", "https://a.example", "https://0.example")


def test_a_byte_order_mark_is_no_obstacle() -> None:
    assert isinstance(read(Reply(200, {}, b"\xef\xbb\xbf" + ok().body)), Token)


@pytest.mark.parametrize(
    "body",
    [
        ok().body.decode().encode("utf-16"),
        b"\xff\xfe",
        b"[" * 200_000 + b"]" * 200_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"1" * 5000,
        b'{"access_token": NaN}',
        b"null",
    ],
    ids=["utf-16", "not utf-8", "nested lists", "nested objects", "long number", "NaN", "null"],
)
def test_strange_json_is_no_token(body: bytes) -> None:
    failure = read(Reply(200, {}, body))
    assert isinstance(failure, Failure)
    assert failure.kind == "reply"


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    ["access_token", "expires_on", "expires_in", "token_type", "error", "error_description", "resource"]
)
_OBJECTS = st.dictionaries(_FIELDS, _JSON | st.just(CANARY) | st.just(jwt(aud="x", tid="y")))


@given(
    st.integers(100, 599),
    st.dictionaries(st.sampled_from(["retry-after", "content-encoding", "content-type"]), st.text(), max_size=3),
    st.binary() | _JSON.map(lambda value: json.dumps(value).encode()) | _OBJECTS.map(lambda o: json.dumps(o).encode()),
)
@example(400, {"retry-after": "Wed, 21 Oct 2015 07:28:00 -2500"}, b"")
def test_every_reply_is_a_valid_token_or_a_failure_that_shows_nothing(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    outcome = read(Reply(status, headers, body))
    if isinstance(outcome, Token):
        assert outcome.expires_on > NOW
        assert outcome.value.isascii()
        assert outcome.value.isprintable()
        assert CANARY not in repr(outcome)
        return
    assert outcome.resource == ARM
    assert "\n" not in outcome.message
    if b"access_token" in body:
        assert not SECRET.search(outcome.message) or b'"error' in body


@given(st.text())
def test_the_claims_of_any_text_are_a_dictionary(token: str) -> None:
    assert isinstance(claims_of(token), dict)


@given(st.binary())
def test_the_claims_of_any_payload_are_a_dictionary(payload: bytes) -> None:
    assert isinstance(claims_of(f"e30.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.x"), dict)


def test_claims_are_read_from_two_parts_or_more_and_from_an_object_only() -> None:
    payload = jwt(tid="t").split(".")[1]
    assert claims_of(payload) == {}
    assert claims_of(f"x.{payload}") == {"tid": "t"}
    assert claims_of(f"x.{payload}.y.z") == {"tid": "t"}
    assert claims_of("x.W10.y") == {}


def test_claims_are_decoded_from_the_alphabet_of_urls() -> None:
    token = jwt(a="~~~???>>>")
    assert "-" in token or "_" in token
    assert claims_of(token) == {"a": "~~~???>>>"}
    assert claims_of("x." + base64.urlsafe_b64encode(b'{"\xc3\xbf":"\xc3\xbe\xc3\xbf?"}').decode()) == {"ÿ": "þÿ?"}


def test_claims_are_decoded_whatever_the_padding() -> None:
    for name in ("a", "ab", "abc", "abcd"):
        assert claims_of(jwt(tid=name)) == {"tid": name}


@given(st.text())
def test_what_is_quoted_is_one_bounded_line(text: str) -> None:
    quoted = quotable(text, 50)
    assert len(quoted) <= 51
    assert quoted.isprintable()


def test_what_looks_like_a_token_is_not_quoted() -> None:
    assert quotable(f"got {jwt(aud='x')} instead") == "got [redacted] instead."
    assert quotable("key " + "A1" * 30) == "key [redacted]."
    assert "https://management.azure.com/subscriptions/0000-11" in quotable(
        "https://management.azure.com/subscriptions/0000-11"
    )


class Script:
    """Drives ``acquire`` with given answers and a clock that moves only when it pauses."""

    def __init__(self, mocker: Any, patience: Patience, *answers: Reply | NoReply | None) -> None:
        self.now = 1000.0
        mocker.patch.object(_protocol, "monotonic", lambda: self.now)
        mocker.patch.object(_protocol, "time", lambda: NOW + self.now - 1000)
        self.asks: list[float] = []
        self.pauses: list[float] = []
        steps = acquire(ARM, patience)
        remaining = list(answers)
        step = next(steps)
        try:
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    step = steps.send(None)
                else:
                    assert isinstance(step, Ask)
                    self.asks.append(step.seconds)
                    step = steps.send(remaining.pop(0))
        except StopIteration as end:
            self.outcome = end.value
        assert not remaining


PORTAL = Reply(400, {}, b'{"error":{"code":"invalid_request","message":"Timeout waiting for token from portal."}}')


def test_a_failure_that_may_pass_is_retried_with_growing_pauses(mocker: Any) -> None:
    script = Script(mocker, Patience(30, 3, 0.4), PORTAL, PORTAL, PORTAL, ok())
    assert isinstance(script.outcome, Token)
    assert script.pauses == [0.4, 0.8, 1.6]
    assert script.asks == [30, pytest.approx(29.6), pytest.approx(28.8), pytest.approx(27.2)]


def test_retries_end(mocker: Any) -> None:
    script = Script(mocker, Patience(30, 1, 0.4), PORTAL, PORTAL)
    assert script.outcome.kind == "portal"


def test_without_retries_there_is_one_question(mocker: Any) -> None:
    assert Script(mocker, Patience(30, 0, 0.4), PORTAL).outcome.kind == "portal"


def test_a_pause_that_would_outlast_the_budget_is_not_taken(mocker: Any) -> None:
    script = Script(mocker, Patience(1, 5, 0.4), PORTAL, PORTAL)
    assert script.pauses == [0.4]


@pytest.mark.parametrize(
    ("value", "pause"),
    [
        ("7", 7.0),
        ("0", 0.4),
        ("", 0.4),
        ("soon", 0.4),
        ("-5", 0.4),
        ("Fri, 15 Jan 2027 08:00:10 GMT", 9.5),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.4),
    ],
)
def test_retry_after_is_read_in_all_its_forms(mocker: Any, value: str, pause: float) -> None:
    script = Script(mocker, Patience(30, 3, 0.4), Reply(503, {"retry-after": value}, b""), ok())
    assert script.pauses == [pytest.approx(pause)]


def test_the_portals_silence_may_name_a_date(mocker: Any) -> None:
    headers = {"retry-after": "Fri, 15 Jan 2027 08:00:10 GMT"}
    script = Script(mocker, Patience(30, 3, 0.4), Reply(400, headers, PORTAL.body), ok())
    assert script.pauses == [pytest.approx(9.5)]
    script = Script(mocker, Patience(30, 3, 0.4), Reply(503, headers, b"{}"), ok())
    assert script.pauses == [pytest.approx(9.5)]


def test_a_mixed_up_token_is_asked_for_once_more_at_once(mocker: Any) -> None:
    wrong = ok(access_token=jwt(aud="https://graph.windows.net/"))
    assert isinstance(Script(mocker, Patience(), wrong, ok()).outcome, Token)
    script = Script(mocker, Patience(), wrong, wrong)
    assert script.outcome.kind == "wrong_resource"
    assert script.pauses == [0.0]


@pytest.mark.parametrize(
    ("answer", "kind", "what"),
    [
        (
            NoReply("nobody"),
            "refused",
            f"endpoint could not be asked for a token for {ARM}: nobody.",
        ),
        (NoReply("", timed_out=True), "timeout", f"did not answer within 30 seconds when asked for a token for {ARM}."),
        (None, "busy", f"could not be asked for a token for {ARM}: for 30 seconds it was busy with"),
        (Reply(404, {}, b""), "endpoint", f"answered 404 when asked for a token for {ARM}"),
    ],
)
def test_what_will_not_pass_is_not_retried(mocker: Any, answer: Reply | NoReply | None, kind: str, what: str) -> None:
    script = Script(mocker, Patience(), answer)
    assert script.outcome.kind == kind
    assert what in script.outcome.what
    assert script.outcome.resource == ARM
    assert script.pauses == []


def test_a_question_is_asked_with_what_is_left_even_if_that_is_nothing(mocker: Any) -> None:
    script = Script(mocker, Patience(0, 3, 0.4), PORTAL)
    assert script.asks == [0.0]
    # A pause that ends on the deadline leaves no time for the question after it.
    assert Script(mocker, Patience(0.4, 3, 0.4), PORTAL).pauses == []


def test_driving_performs_each_step_and_sends_back_its_answer() -> None:
    def steps() -> Any:
        try:
            first = yield "one"
            second = yield "two"
            return first + second
        finally:
            closed.append(True)

    closed: list[bool] = []
    performed: list[str] = []

    def perform(step: str) -> str:
        performed.append(step)
        return step.upper()

    assert _protocol.drive(steps(), perform) == "ONETWO"
    assert performed == ["one", "two"]

    def fail(step: str) -> str:
        raise KeyError(step)

    with pytest.raises(KeyError, match="one"):
        _protocol.drive(steps(), fail)
    assert closed == [True, True]


def test_reprs_show_no_body() -> None:
    assert CANARY not in repr(ok())
    assert "late" in repr(NoReply("late"))
    assert "timeout" in repr(Failure("timeout", "It.", "That."))
