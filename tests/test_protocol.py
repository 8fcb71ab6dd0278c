"""Scopes and replies, as data."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from azure_cloudshell_credential._endpoint.failures import Failure, encoded
from azure_cloudshell_credential._endpoint.identity import Identity, identity_in
from azure_cloudshell_credential._endpoint.protocol import Reply, form, read_reply
from azure_cloudshell_credential._endpoint.scopes import is_bare_permission, scope_to_resource
from azure_cloudshell_credential._endpoint.text import quoted, redacted
from azure_cloudshell_credential._endpoint.token import (
    Token,
    checked_token,
    claims_of,
    wrong_tenant,
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
        ("User.Read", "https://graph.microsoft.com/"),
        ("https://x.example/y://z/scope", "https://x.example/y://z"),
        ("https://a/b", "https://a"),
        ("spn:a/b", "spn:a"),
        ("https://x", "https://x"),
        ("https:///x", "https:///x"),
        ("https://x.example/.default/.default", "https://x.example/.default"),
        ("https://x.example/.default/y", "https://x.example/.default"),
    ],
)
def test_a_scope_means_a_resource(scope: str, resource: str) -> None:
    assert scope_to_resource(scope) == resource


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        ("", "A scope must be a non-empty string without white space or control characters."),
        ("a b", "A scope must be a non-empty string without white space or control characters."),
        (None, "A scope must be a non-empty string without white space or control characters."),
        (
            "/.default",
            "'/.default' is not a scope: use a resource's URI or application ID with /.default",
        ),
        ("\ud800", "A scope must be a non-empty string without white space or control characters."),
        ("vault", "'vault' is not a scope: use https://vault.azure.net/.default"),
        ("ARM", "'ARM' is not a scope: use https://management.azure.com/.default"),
        ("vault/.default", "'vault/.default' is not a scope: use https://vault.azure.net/.default"),
        (
            "myvault.vault.azure.net/.default",
            "'myvault.vault.azure.net/.default' is not a scope: use https://vault.azure.net/.default",
        ),
        (
            "management.azure.com",
            "'management.azure.com' is not a scope: use https://management.azure.com/.default",
        ),
        (
            "Graph.microsoft.com/.default",
            "'Graph.microsoft.com/.default' is not a scope: use https://graph.microsoft.com/.default",
        ),
        (
            "contoso.com",
            "'contoso.com' is not a scope: use a resource's URI or application ID with /.default",
        ),
    ],
)
def test_a_wrong_scope_is_explained(scope: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        scope_to_resource(scope)


@pytest.mark.parametrize(
    ("cloud", "meant"),
    [("fairfax", "https://vault.usgovcloudapi.net"), ("mooncake", "https://vault.azure.cn")],
)
def test_a_short_name_is_explained_in_the_cloud_that_it_is_used_in(
    monkeypatch: pytest.MonkeyPatch, cloud: str, meant: str
) -> None:
    monkeypatch.setenv("ACC_CLOUD", cloud)
    with pytest.raises(ValueError, match=f"'vault' is not a scope: use {re.escape(meant)}/.default$"):
        scope_to_resource("vault")


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)))
def test_default_is_stripped_and_nothing_else_touched(rest: str) -> None:
    resource = f"https://{rest}"
    assert scope_to_resource(f"{resource}/.default") == resource


def test_a_token_in_the_place_of_a_scope_is_not_shown() -> None:
    with pytest.raises(ValueError, match=r"^'\[redacted\]' is not a scope"):
        scope_to_resource(jwt(aud="x"))


@given(st.one_of(st.text(), st.none(), st.integers(), st.binary(), st.text().map("x:{}".format)))
def test_a_scope_is_a_resource_or_a_value_error(scope: Any) -> None:
    try:
        resource = scope_to_resource(scope)
    except ValueError:
        return
    assert resource
    assert scope.startswith(resource) or is_bare_permission(scope)


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
        ({"expires_on": "1800003600.123"}, 1800003600),
        ({"expires_on": 1.8000036e9}, 1800003600),
        ({"expires_on": ..., "expires_in": "3899.5"}, 1800003899),
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
        {"expires_on": "1800003600."},
        {"expires_on": "1.8e9"},
        {"expires_on": "1800003600.0.0"},
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


HOUR = 3600


def at_a_clock(ahead: int, life: int = 3900, said: object = 3900) -> Token | Failure:
    """A new token, read by a clock that is so many seconds ahead."""
    issued = int(NOW) - ahead
    return read(ok(expires_on=issued + life, expires_in=said))


def test_a_clock_that_is_hours_ahead_is_named_where_the_token_is_of_no_use() -> None:
    failure = at_a_clock(2 * HOUR)
    assert isinstance(failure, Failure)
    assert failure.kind == "reply"
    assert failure.what == (
        f"The Cloud Shell token endpoint returned an unusable response for {ARM}: it holds a token that has already "
        "expired, 55 minutes ago by the clock of this machine, while the endpoint says that it lives for 65 minutes."
    )
    assert (failure.cure, failure.details) == ("clock", {"ahead": "2 hours"})


def test_a_clock_that_is_hours_behind_is_named_and_the_tokens_life_counted_from_now() -> None:
    token = at_a_clock(-2 * HOUR)
    assert isinstance(token, Token)
    assert token.expires_on == int(NOW) + 3900
    assert token.warning == (
        f"The clock of this machine seems to be 2 hours behind: by it, the token for {ARM} lives for another "
        "3.1 hours; the endpoint says 65 minutes, which counts."
    )


@pytest.mark.parametrize(
    ("ahead", "life", "said"),
    [
        (0, 3900, "3900"),
        # What the documentation of the virtual machine's endpoint shows.
        (0, 3900, "3600"),
        (300, 3900, 3900),
        (-300, 3900, 3900),
        # From the endpoint's cache, with the life that it once had: a clock that is ahead looks the same.
        (1800, 3900, 3900),
        (0, 60, 3900),
        (0, 3900, 0),
        (0, 3900, None),
    ],
)
def test_what_need_not_be_the_clock_is_not_put_down_to_it(ahead: int, life: int, said: object) -> None:
    token = at_a_clock(ahead, life, said)
    assert isinstance(token, Token)
    assert token.warning == ""
    assert token.expires_on == int(NOW) - ahead + life


def test_an_expired_token_with_no_life_left_is_not_put_down_to_the_clock() -> None:
    for said in (0, None, "250"):
        failure = read(ok(expires_on=int(NOW) - 10, expires_in=said))
        assert isinstance(failure, Failure)
        assert failure.what.endswith("it holds a token that has already expired.")


@pytest.mark.parametrize(("life", "refresh_in"), [(7199, None), (7200, 3600), (7201, 3600), (28800, 14400)])
def test_long_lived_tokens_are_refreshed_at_half_their_life(life: int, refresh_in: int | None) -> None:
    token = read(ok(expires_on=int(NOW) + life))
    assert isinstance(token, Token)
    assert token.refresh_on == (None if refresh_in is None else int(NOW) + refresh_in)


@pytest.mark.parametrize(
    ("times", "refresh_in"),
    [
        ({"refresh_in": "1800"}, 1800),
        ({"refresh_in": 1800.5}, 1800),
        ({"refresh_on": str(int(NOW) + 60)}, 60),
        ({"refresh_on": int(NOW) + 60, "refresh_in": "1800"}, 60),
        # What is not before the expiry, has passed or is malformed is no refresh time.
        ({"refresh_in": "3600"}, None),
        ({"refresh_in": "0"}, None),
        ({"refresh_on": "1"}, None),
        ({"refresh_in": "soon"}, None),
        ({"refresh_in": None}, None),
    ],
)
def test_a_refresh_time_in_the_reply_is_used(times: dict[str, object], refresh_in: int | None) -> None:
    token = read(ok(**times))
    assert isinstance(token, Token)
    assert token.refresh_on == (None if refresh_in is None else int(NOW) + refresh_in)


@pytest.mark.parametrize("error", [None, "", {}, []])
def test_an_empty_error_beside_a_token_is_no_error(error: object) -> None:
    assert isinstance(read(ok(error=error)), Token)


def test_a_hostile_error_costs_no_more_than_its_transfer() -> None:
    import tracemalloc

    fields = {f"{index}_token": f"secret{index}" for index in range(20_000)}
    many = {**fields, "error": {"code": "x" * 200_000, "message": "secret7 " * 20_000}}
    few = {"access_token": CANARY, "error": {"code": "c", "message": f"{CANARY} " * 20_000}}
    for content in (many, few):
        body = json.dumps(content).encode()
        start = time.process_time()
        json.loads(body)
        parsing = time.process_time() - start
        tracemalloc.start()
        start = time.process_time()
        failure = read(Reply(400, {}, body))
        elapsed = time.process_time() - start
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert isinstance(failure, Failure)
        assert "secret" not in failure.what
        assert CANARY not in failure.what
        # Generous bounds: without them it was seconds and hundreds of megabytes.
        assert elapsed < 20 * parsing + 0.5
        assert peak < 20 * len(body)


@pytest.mark.parametrize("at", range(15_985, 16_005))
def test_a_token_at_the_cut_is_not_shown_in_part(at: int) -> None:
    content = {"access_token": CANARY, "error": {"code": "c", "message": "." * at + CANARY + "." * 3000}}
    failure = read(Reply(400, {}, json.dumps(content).encode()))
    assert isinstance(failure, Failure)
    assert CANARY[:4] not in failure.what


@pytest.mark.parametrize(
    ("scope", "is_permission"),
    [
        ("User.Read", True),
        ("Directory.Read.All", True),
        ("Mail.ReadWrite.Shared", True),
        ("DeviceManagementApps.Read.All", True),
        ("Synchronization-Read.All", True),
        ("https://graph.microsoft.com", False),
        (GUID, False),
        ("contoso.com", False),
        ("openid", False),
        ("api://x", False),
        ("User", False),
    ],
)
def test_a_bare_permission_is_told_from_a_resource(scope: str, is_permission: bool) -> None:
    assert is_bare_permission(scope) == is_permission


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
        assert token.identity.tenant_id == tenant_id


TENANT, USER = "72F988BF-86f1-41af-91ab-2d7cd011db47", "00000000-0000-4000-8000-00000000000A"


@pytest.mark.parametrize(
    ("claims", "key", "who"),
    [
        (
            {"tid": TENANT, "oid": USER, "upn": "ada@contoso.example"},
            (TENANT.lower(), USER.lower()),
            f"ada@contoso.example in tenant {TENANT}",
        ),
        ({"tid": TENANT, "oid": USER}, (TENANT.lower(), USER.lower()), f"the object {USER} in tenant {TENANT}"),
        ({"tid": TENANT, "unique_name": "ada"}, (TENANT.lower(), ""), f"ada in tenant {TENANT}"),
        ({"tid": TENANT, "appid": USER}, (TENANT.lower(), ""), f"the application {USER} in tenant {TENANT}"),
        ({"oid": USER, "preferred_username": "ada\n\x1b[1m"}, ("", USER.lower()), "ada [1m"),
        ({"tid": 7, "oid": [USER]}, ("", ""), "an unnamed user"),
    ],
)
def test_a_token_says_whose_it_is(claims: dict[str, object], key: object, who: str) -> None:
    identity = Token(jwt(**claims), 1).identity
    assert (identity.key, identity.who) == (key, who)


def test_an_opaque_token_is_nobodys_known() -> None:
    token = Token(CANARY, 1)
    assert (token.identity.is_known, token.audience) == (False, None)
    assert token.identity.who == "an unnamed user"


NO_TIME = "a token whose expiry is not a time in seconds"


@pytest.mark.parametrize(
    ("value", "expires_on", "reason"),
    [
        (None, NOW + 60, "no access token"),
        ("", NOW + 60, "no access token"),
        (b"x", NOW + 60, "no access token"),
        ("a b", NOW + 60, "an access token that is not printable ASCII"),
        ("a\nb", NOW + 60, "an access token that is not printable ASCII"),
        ("tökén", NOW + 60, "an access token that is not printable ASCII"),
        ("x", None, NO_TIME),
        ("x", True, NO_TIME),
        ("x", "1800003600", NO_TIME),
        ("x", "2030-01-01 00:00:00", NO_TIME),
        ("x", [], NO_TIME),
        ("x", -1, NO_TIME),
        ("x", float("nan"), NO_TIME),
        ("x", float("inf"), NO_TIME),
        ("x", float("-inf"), NO_TIME),
        ("x", (NOW + 60) * 1000, NO_TIME),
        ("x", 10**400, NO_TIME),
        ("x", 0, "a token that has already expired"),
        ("x", NOW, "a token that has already expired"),
    ],
)
def test_what_another_credential_returns_is_checked(value: object, expires_on: object, reason: str) -> None:
    assert checked_token(value, expires_on, None, "Bearer", NOW) == reason


def test_what_another_credential_returns_becomes_whole_seconds() -> None:
    token = checked_token("x", NOW + 60.9, NOW + 30.9, "pop", NOW)
    assert isinstance(token, Token)
    assert (token.value, token.expires_on, token.refresh_on, token.token_type) == (
        "x",
        int(NOW) + 61,
        int(NOW) + 31,
        "pop",
    )
    assert {type(token.expires_on), type(token.refresh_on)} == {int}


@pytest.mark.parametrize("refresh_on", [None, "soon", float("nan"), True, []])
def test_a_refresh_time_that_is_none_is_dropped(refresh_on: object) -> None:
    token = checked_token("x", 253_402_300_799, refresh_on, None, NOW)
    assert isinstance(token, Token)
    assert (token.refresh_on, token.token_type) == (None, "Bearer")


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()), st.text() | st.none())
def test_whatever_another_credential_returns_nothing_is_raised(expires_on: object, value: object) -> None:
    token = checked_token(value, expires_on, expires_on, value, NOW)
    assert isinstance(token, str) or token.expires_on > 0


@pytest.mark.parametrize(
    ("status", "content", "kind", "retryable"),
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
def test_errors_are_told_apart(status: int, content: object, kind: str, retryable: bool) -> None:
    failure = read(Reply(status, {}, b"" if content is None else json.dumps(content).encode()))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.retry_after is not None) == (kind, retryable)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"error": {"code": "AudienceNotSupported", "message": "no"}}, "AudienceNotSupported"),
        (
            {"error": {"code": "invalid_request", "message": "Timeout waiting for token from portal."}},
            "invalid_request",
        ),
        ({"error": {"code": "odd", "message": "y"}}, "odd"),
        ({"error": "flat", "error_description": "y"}, "flat"),
        ({"error": {"code": "a\nb" + "c" * 200, "message": "y"}}, "[redacted]"),
        ({"error": {"message": "y"}}, ""),
        ({}, ""),
    ],
)
def test_a_failure_has_the_endpoints_own_code(content: object, code: str) -> None:
    failure = read(Reply(400, {}, json.dumps(content).encode()))
    assert isinstance(failure, Failure)
    assert failure.code == code.replace("[redacted]", "a [redacted]" if "[" in code else "")


@pytest.mark.parametrize("nested", [False, True])
def test_an_error_that_quotes_the_token_is_redacted(nested: bool) -> None:
    error = {"code": CANARY, "message": f"Cannot use {CANARY}"}
    content = {"error": {**error, "access_token": CANARY}} if nested else {"error": error, "access_token": CANARY}
    failure = read(Reply(400, {}, json.dumps(content).encode()))
    assert isinstance(failure, Failure)
    assert CANARY not in failure.what
    assert "([redacted]) [redacted]." in failure.what


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


def test_a_compressed_reply_is_not_read() -> None:
    outcome = read(Reply(200, {"content-encoding": "gzip"}, b"\x1f\x8b"))
    assert isinstance(outcome, Failure)
    assert outcome.what.endswith(f"unusable response for {ARM}: it is compressed, which was not asked for.")


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
    assert failure.what.endswith(f"unusable response for {ARM}: it is a JSON list, not an object.")


@pytest.mark.parametrize(
    "message", ["AADSTS50076: words of Entra's.", "AADSTS90033: A transient error.", "interaction_required"]
)
def test_an_error_of_entras_is_passed_on_and_not_retried(message: str) -> None:
    failure = read(Reply(400, {}, json.dumps({"error": {"code": "invalid_grant", "message": message}}).encode()))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.code, failure.retry_after) == ("entra", "invalid_grant", None)
    assert message.removesuffix(".") in failure.what
    assert failure.cure == "reload"


def test_what_entra_said_is_passed_on() -> None:
    failure = read(Reply(400, {}, b'{"error":{"code":"c","message":"AADSTS1: no"}}'))
    assert isinstance(failure, Failure)
    assert failure.what == f"Microsoft Entra ID did not issue a token for {ARM}: (c) AADSTS1: no."


def test_a_denied_audience_is_named() -> None:
    failure = read(Reply(400, {}, b'{"error":{"code":"AudienceNotSupported","message":""}}'))
    assert isinstance(failure, Failure)
    assert failure.what == f"Cloud Shell does not issue tokens for {ARM} (AudienceNotSupported)."


def test_what_a_broker_says_of_it_is_passed_on() -> None:
    failure = read(Reply(400, {}, b'{"error":{"code":"AudienceNotSupported","message":"Not by this broker"}}'))
    assert isinstance(failure, Failure)
    assert failure.what == f"Cloud Shell does not issue tokens for {ARM} (AudienceNotSupported). Not by this broker."


def test_the_wrong_resource_is_named() -> None:
    failure = read(ok(access_token=jwt(aud="https://graph.windows.net/")))
    assert isinstance(failure, Failure)
    assert failure.what == (
        f"The Cloud Shell token endpoint answered a request for {ARM} with a token for https://graph.windows.net/."
    )


PORTAL = Reply(400, {}, b'{"error":{"code":"invalid_request","message":"Timeout waiting for token from portal."}}')


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
        ({"access_token": "a b"}, "it holds an access token that is not printable ASCII"),
        ({"token_type": "mac"}, "its token is not a bearer token"),
        ({"token_type": 7}, "its token is not a bearer token"),
        ({"expires_on": ...}, "it does not say when the token expires"),
        ({"expires_on": 10**400}, "its token expires more than a year ahead"),
        ({"expires_on": 1}, "it holds a token that has already expired"),
    ],
)
def test_the_reason_why_a_reply_cannot_be_used(changes: dict[str, object], reason: str) -> None:
    failure = read(ok(**changes))
    assert isinstance(failure, Failure)
    assert failure.what == f"The Cloud Shell token endpoint returned an unusable response for {ARM}: {reason}."


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
    assert failure.supported_audiences[:3] == ("[redacted]", "https://a.example.", "https://0.example")


@pytest.mark.parametrize(
    ("life", "stated", "names_the_clock"), [(0, 3600, True), (-3400, 3600, True), (0, 300, False), (0, 301, True)]
)
def test_when_an_expired_token_is_put_down_to_the_clock(life: int, stated: int, names_the_clock: bool) -> None:
    failure = read(ok(expires_on=int(NOW) + life, expires_in=stated))
    assert isinstance(failure, Failure)
    assert ("clock of this machine" in failure.what) == names_the_clock
    assert isinstance(read(ok(expires_on=int(NOW) + 1, expires_in=stated)), Token)


def test_the_rest_of_a_plain_token() -> None:
    token = Token("x", 1)
    assert (token.token_type, token.warning, token.refresh_on) == ("Bearer", "", None)
    half = read(ok(expires_on=int(NOW) + 7201, expires_in=...))
    assert isinstance(half, Token)
    assert (half.refresh_on, type(half.refresh_on)) == (int(NOW) + 3600, int)
    assert checked_token("x", 253_402_300_800, None, None, NOW) == "a token whose expiry is not a time in seconds"


def test_a_token_for_another_resource_is_asked_for_again_at_once() -> None:
    failure = read(ok(access_token=jwt(aud="https://graph.windows.net/")))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.retry_after) == ("wrong_resource", 0.0)


def error(code: str, message: str) -> Failure:
    content = {"error": {"code": code, "message": message}}
    failure = read(Reply(400, {}, json.dumps(content).encode()))
    assert isinstance(failure, Failure)
    return failure


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("", ""),
        ("Audience https://x.example is not a supported MSI token audience.", ""),
        ("This broker was told not to serve it", " This broker was told not to serve it."),
    ],
)
def test_the_endpoints_own_sentence_for_an_audience_is_not_repeated(message: str, said: str) -> None:
    failure = error("AudienceNotSupported", message)
    assert failure.what == f"Cloud Shell does not issue tokens for {ARM} (AudienceNotSupported).{said}"


def test_what_others_say_is_bounded() -> None:
    words = "a b " * 200
    assert len(error("AudienceNotSupported", f"Supported audiences: {words}").supported_audiences[0]) == 200
    assert len(error(words, "").code) == 100
    assert len(str(identity_in({"tid": words}).tenant_id)) == 200
    other = wrong_tenant(ARM, Token("opaque", 1), TENANT, words)
    assert other is not None
    assert f"signed in to tenant {words[:99]}… only." in other.what
    with pytest.raises(ValueError, match=r"^'(a\.){49}a…' is not a scope"):
        scope_to_resource("a." * 200)


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
    assert "\n" not in outcome.what
    if b"access_token" in body:
        assert not SECRET.search(outcome.what) or b'"error' in body


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
    said = quoted(text, 50)
    assert len(said) <= 50
    assert said.isprintable()


def test_what_looks_like_a_token_is_not_quoted() -> None:
    assert quoted(f"got {jwt(aud='x')} instead") == "got [redacted] instead"
    assert quoted("key " + "A1" * 30) == "key [redacted]"
    assert "https://management.azure.com/subscriptions/0000-11" in quoted(
        "https://management.azure.com/subscriptions/0000-11"
    )


LONG = "a-name-that-is-as-long-as-names-in-azure-may-be-and-then-some"
CHALLENGE = base64.b64encode(json.dumps({"access_token": {"nbf": {"essential": True, "value": "1"}}}).encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"https://{LONG}.vault.azure.net/secrets/x",
        f"https://myaccount.blob.core.windows.net/{LONG}",
        f"/subscriptions/00000000-0000-4000-8000-000000000000/resourceGroups/{LONG}/providers/Microsoft.Web/sites/x",
        f"{LONG}.westeurope.azurecontainer.io",
        f"run az login --claims-challenge {CHALLENGE} and",
        f'az login --scope x --claims-challenge "{CHALLENGE}"',
        "AADSTS50076: Trace ID: 00000000-0000-4000-8000-000000000000",
    ],
)
def test_innocent_words_are_not_taken_for_tokens(text: str) -> None:
    assert quoted(text) == text


def test_the_callers_own_words_are_not_redacted() -> None:
    resource = f"api://{'A1' * 40}/{LONG}"
    for reply in (Reply(400, {}, b'{"error":{"code":"AudienceNotSupported"}}'), PORTAL, Reply(500, {}, b"")):
        failure = read(reply, resource)
        assert isinstance(failure, Failure)
        assert resource in failure.what
    assert encoded("x" * 100) == f"{'eHh4' * 33}eA=="


@pytest.mark.parametrize(
    "secret",
    [
        jwt(aud="x") + "signature",
        "eyJ0eXAiOiJKV1QifQ.e30.x",
        "0.AXoA" + "Ab1_" * 100 + ".AgABAAEAAAA" + "Xy2-" * 100,
        "EwBwA8l6BAAU" + "O9ch/hJ+" * 20 + "==",
        "A1" * 24,
        "f" * 64,
    ],
    ids=["JWT", "short JWT", "refresh token", "base64", "opaque", "hexadecimal"],
)
@pytest.mark.parametrize("where", ["{}", "got {} instead", '{{"t":"{}"}}', "token={}", "token: {}.", "Bearer {}, x"])
def test_tokens_of_every_kind_are_redacted(secret: str, where: str) -> None:
    shown = quoted(where.format(secret))
    assert "[redacted]" in shown
    assert not any(part in shown for part in re.findall(r"[\w+=-]{20,}", secret))


def test_a_long_text_is_redacted_in_linear_time() -> None:
    for text in ("eyJ" * 200_000, "eyJ." * 200_000, "a/" * 300_000, "a." * 300_000, "--claims-challenge a" * 30_000):
        start = time.process_time()
        redacted(text)
        assert time.process_time() - start < 5


def test_the_user_of_a_token_is_the_first_name_that_it_has() -> None:
    assert identity_in({"upn": "u", "unique_name": "n"}).name == "u"
    assert identity_in({"upn": "", "unique_name": "n"}).name == "n"
    assert identity_in({"upn": 7}).name is None
    assert identity_in({"name": "x"}).name is None


def test_a_claim_is_shown_as_one_short_printable_line() -> None:
    assert identity_in({"tid": "x\n\x1b[2Jy"}).tenant_id == "x [2Jy"
    assert len(identity_in({"oid": "a b " * 300}).object_id or "") == 200
    assert identity_in({}).key == ("", "")


@pytest.mark.parametrize(("count", "is_shown"), [(8, True), (9, False)])
def test_an_error_with_many_tokens_is_not_quoted(count: int, is_shown: bool) -> None:
    content = {f"{index}_token": "t" for index in range(count)} | {"error": {"code": "c", "message": "words"}}
    failure = read(Reply(400, {}, json.dumps(content).encode()))
    assert isinstance(failure, Failure)
    assert (failure.code, "words" in failure.what) == (("c", True) if is_shown else ("[redacted]", False))


def test_reprs_show_no_body() -> None:
    assert CANARY not in repr(ok())
    assert "timeout" in repr(Failure("timeout", "It.", "tab"))


@pytest.mark.parametrize(
    ("of_the_token", "requested", "of_the_environment", "fits"),
    [
        (TENANT, None, None, True),
        (TENANT, "", None, True),
        (TENANT, TENANT.lower(), None, True),
        (TENANT, TENANT, USER, True),
        (None, TENANT, TENANT.lower(), True),
        (TENANT, "common", None, True),
        (TENANT, "Organizations", USER, True),
        (TENANT, USER, USER, False),
        (None, USER, TENANT, False),
        (None, USER, None, False),
    ],
)
def test_a_token_is_for_the_tenant_requested_or_there_is_a_failure(
    of_the_token: str | None, requested: str | None, of_the_environment: str | None, fits: bool
) -> None:
    token = Token(jwt(tid=of_the_token), 1)
    failure = wrong_tenant("https://vault.azure.net", token, requested, of_the_environment)
    if fits:
        assert failure is None
        return
    assert failure is not None
    known = of_the_token or of_the_environment
    signed_in = f"tenant {known} only." if known else "an unknown tenant (the token has no tid claim)."
    assert failure.what == (
        f"A token for https://vault.azure.net in tenant {requested} was requested, but Cloud Shell is signed in to "
        f"{signed_in}"
    )


@pytest.mark.parametrize(
    ("claims", "requested", "fits"),
    [
        ({"upn": "ada@contoso.example"}, "contoso.example", True),
        ({"upn": "ada@Contoso.Example", "iss": "x", "idp": "x"}, "CONTOSO.example", True),
        # Part of a domain, and a domain below it, may be other tenants'.
        ({"upn": "ada@eu.contoso.example"}, "contoso.example", False),
        ({"upn": "ada@contoso.example"}, "eu.contoso.example", False),
        ({"upn": "ada@notcontoso.example"}, "contoso.example", False),
        ({"upn": "ada@contoso.example"}, "contoso.onmicrosoft.com", False),
        # A guest's name is of the guest's home: Entra's, a personal account's, and the form in the directory.
        ({"upn": "ada@contoso.example", "idp": "https://sts.windows.net/home/"}, "contoso.example", False),
        ({"upn": "live.com#ada@contoso.example"}, "contoso.example", False),
        ({"upn": "ada_contoso.example#EXT#@fabrikam.example"}, "fabrikam.example", False),
        ({"unique_name": "ada@contoso.example"}, "contoso.example", False),
        ({"preferred_username": "ada@contoso.example"}, "contoso.example", False),
        ({"upn": "ada"}, "ada", False),
        ({"upn": ["ada@contoso.example"]}, "contoso.example", False),
        ({}, "contoso.example", False),
    ],
)
def test_a_tenant_by_name_is_the_domain_of_a_user_who_is_no_guest(
    claims: dict[str, object], requested: str, fits: bool
) -> None:
    failure = wrong_tenant(ARM, Token(jwt(tid=TENANT, **claims), 1), requested, TENANT)
    assert (failure is None) == fits
    assert failure is None or failure.cure == "tenant_id"


def test_an_identity_differs_where_a_known_part_does() -> None:
    ada = Identity(TENANT, USER)
    assert not ada.differs(Identity(TENANT.lower(), USER.lower()))
    assert ada.differs(Identity(TENANT, TENANT))
    assert ada.differs(Identity(USER, None))
    assert ada.differs(Identity(None, TENANT))
    for unknown in (Identity(), Identity(TENANT), Identity(None, USER)):
        assert not ada.differs(unknown)
        assert not unknown.differs(ada)


def test_two_identities_are_told_apart_by_object_id_where_names_do_not() -> None:
    here, there = Identity(TENANT, USER, "ada@contoso.example"), Identity(USER, TENANT, "ADA@contoso.example")
    assert here.beside(there) == f"ada@contoso.example (object {USER}) in tenant {TENANT}"
    assert here.beside(Identity(TENANT, TENANT, "grace@contoso.example")) == f"ada@contoso.example in tenant {TENANT}"
    said = Identity(TENANT, USER, source="ACC_OID")
    assert said.beside(here) == f"the object {USER} in tenant {TENANT} (from ACC_OID)"
