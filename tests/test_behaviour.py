"""The table "what happens when", row by row: for the sync and the async credential, alone and in a chain."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import AudienceNotSupportedError
from azure_cloudshell_credential._endpoint import environment
from azure_cloudshell_credential.emulator import CloudShellEmulator, ScriptedReply, faults

from . import misbehaving as peer
from .conftest import ARM, CANARY, VAULT, WITH_AND_WITHOUT_LOGGING, Everything
from .misbehaving import Behaviour, MisbehavingServer

RESOURCE = "https://management.azure.com"
BUDGET = 0.6
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

A_TENANT, ANOTHER_TENANT = "99999999-aaaa-4bbb-8ccc-222222222222", "88888888-aaaa-4bbb-8ccc-222222222222"


def body(**changes: object) -> bytes:
    content: dict[str, object] = {
        "access_token": CANARY,
        "expires_on": str(int(time.time()) + 3600),
        "expires_in": "3600",
        "resource": RESOURCE,
        "token_type": "Bearer",
    }
    content.update(changes)
    return json.dumps({name: value for name, value in content.items() if value is not None}).encode()


class Row:
    """One row: what the endpoint does, what the caller reads, how often it was asked, how long it may take."""

    def __init__(self, name: str, does: Any, says: str, requests: int = 1, seconds: float = BUDGET) -> None:
        self.name = name
        self.does = does
        self.says = says
        self.requests = requests
        self.seconds = seconds


AT_ONCE = 0.4
RETRIES = 2

ROWS = [
    Row("connection reset", peer.reset(), "the connection", seconds=AT_ONCE),
    Row("reset inside the reply", peer.reset(HEAD + b"Content-Length: 99\r\n\r\n{"), "the connection", seconds=AT_ONCE),
    Row("closed without a reply", faults.drop(), "the connection", seconds=AT_ONCE),
    Row("hangs", faults.hang(), "did not answer within"),
    Row("hangs after the headers", peer.hang(HEAD + b"Content-Length: 9\r\n\r\n"), "did not answer within"),
    Row("drips headers", peer.drip(b"HTTP/1.1 200 OK\r\nX-A: "), "did not answer within"),
    Row("drips a body", peer.drip(HEAD + b"Content-Length: 9999\r\n\r\n"), "did not answer within"),
    Row("streams without end", peer.flood(HEAD + b"\r\n"), "exceeds 1 MiB"),
    Row("429", faults.server_error(429), "429", 1 + RETRIES),
    Row("500", faults.server_error(500), "500", 1 + RETRIES),
    Row("503 with Retry-After beyond the budget", faults.server_error(503, 60), "503", 1, AT_ONCE),
    Row("503 with HTML", ScriptedReply(503, "<h1>no</h1>", {"Content-Type": "text/html"}), "503", 1 + RETRIES),
    Row("portal timeout", faults.portal_timeout(), "browser tab with Cloud Shell open and active", 1 + RETRIES),
    Row("an unknown 400", faults.error(400, "odd", "Something odd"), "(odd) Something odd.", 1 + RETRIES),
    Row("an empty 400", ScriptedReply(400, ""), "400", 1 + RETRIES),
    Row("Entra says no", faults.interaction_required(), "AADSTS50076", 1, AT_ONCE),
    Row("404", faults.error(404, "NotFound", "No such thing"), "(NotFound) No such thing.", 1, AT_ONCE),
    Row("a token for another resource", faults.wrong_resource(), "with a token for https://graph.windows.net/", 2),
    Row("an expired token", faults.expired_token(), "already expired", 1, AT_ONCE),
    Row("HTML with status 200", faults.garbage(), "not JSON", 1, AT_ONCE),
    Row("an empty reply", peer.reply(b""), "is empty", 1, AT_ONCE),
    Row("truncated JSON", peer.reply(body()[:-1]), "not JSON", 1, AT_ONCE),
    Row("a cut-off reply", peer.send(HEAD + b"Content-Length: 999\r\n\r\n" + body()), "connection", 1, AT_ONCE),
    Row("a JSON list", peer.reply(b"[1]"), "a JSON list", 1, AT_ONCE),
    Row("no token", peer.reply(body(access_token=None)), "no access token", 1, AT_ONCE),
    Row("a token that is a number", peer.reply(body(access_token=7)), "no access token", 1, AT_ONCE),
    Row("a token with a line break", peer.reply(body(access_token=CANARY + "\r\nX: y")), "printable ASCII", 1, AT_ONCE),
    Row("no expiry", peer.reply(body(expires_on=None, expires_in=None)), "when the token expires", 1, AT_ONCE),
    Row("nonsense for an expiry", peer.reply(body(expires_on=CANARY)), "when the token expires", 1, AT_ONCE),
    Row("an expiry in milliseconds", peer.reply(body(expires_on=1893456000000)), "more than a year ahead", 1, AT_ONCE),
    Row("another kind of token", peer.reply(body(token_type="pop")), "not a bearer token", 1, AT_ONCE),
    Row("compressed", peer.reply(b"\x1f\x8b", 200, "Content-Encoding: gzip"), "compressed", 1, AT_ONCE),
    Row("redirect 302", peer.reply(b"", 302, "Location: http://localhost:1/"), "redirects are never", 1, AT_ONCE),
    Row("redirect 307", peer.reply(b"", 307, "Location: http://localhost:1/"), "redirects are never", 1, AT_ONCE),
    Row("not HTTP", peer.send(b"SSH-2.0-OpenSSH_9.2\r\n"), "not an HTTP/1.x server", 1, AT_ONCE),
]


class Endpoint:
    def __init__(self, url: str, requests: Callable[[], int]) -> None:
        self.url = url
        self.requests = requests


@pytest.fixture(params=ROWS, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    return found


@pytest.fixture
def endpoint(row: Row, shell: CloudShellEmulator, misbehaving: Callable[[Behaviour], MisbehavingServer]) -> Endpoint:
    """An endpoint that does what the row says, however often it is asked."""
    if isinstance(row.does, ScriptedReply):
        shell.script(*[row.does] * 10)
        return Endpoint(shell.endpoint, lambda: len(shell.requests))
    server = misbehaving(row.does)
    return Endpoint(server.endpoint, lambda: len(server.requests))


def credential_for(kind: Any, endpoint: Endpoint) -> Any:
    return kind(endpoint=endpoint.url, timeout=BUDGET, retry_total=RETRIES, retry_backoff_factor=0.01)


@WITH_AND_WITHOUT_LOGGING
def test_alone_the_credential_is_unavailable_and_says_why(kind: Any, row: Row, endpoint: Endpoint) -> None:
    credential = credential_for(kind, endpoint)
    start = time.monotonic()
    with pytest.raises(CredentialUnavailableError) as raised:
        credential.get_token(ARM)
    elapsed = time.monotonic() - start
    assert row.says in raised.value.message
    assert RESOURCE in raised.value.message
    assert "az login" in raised.value.message or row.name == "Entra says no"
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    assert endpoint.requests() == row.requests
    # The first error of a process imports azure-identity, which has nothing to do with the endpoint.
    assert elapsed < row.seconds + 1.0


def test_a_chain_goes_on_to_az(kind: Any, row: Row, endpoint: Endpoint, fake_az: str) -> None:
    assert credential_for(kind, endpoint).chained_with_az().token == fake_az


def test_connection_refused(kind: Any, fake_az: str) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    credential = kind(endpoint=f"http://localhost:{port}/oauth2/token")
    start = time.monotonic()
    with pytest.raises(CredentialUnavailableError, match="Restart Cloud Shell, or run 'az login'"):
        credential.get_token(ARM)
    assert time.monotonic() - start < AT_ONCE
    assert credential.chained_with_az().token == fake_az


def test_outside_cloud_shell(kind: Any, fake_az: str) -> None:
    credential = kind()
    with pytest.raises(CredentialUnavailableError, match=r"not Azure Cloud Shell.*az login"):
        credential.get_token(ARM)
    assert credential.chained_with_az().token == fake_az


def test_in_cloud_shells_image_without_its_variables(
    kind: Any, fake_az: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "IMAGE_FOLDER", str(tmp_path))
    credential = kind()
    said = "This is Azure Cloud Shell, but its variables are missing. Pass on MSI_ENDPOINT and ACC_CLOUD."
    with pytest.raises(CredentialUnavailableError, match=f"^{re.escape(said)}$"):
        credential.get_token(ARM)
    assert credential.chained_with_az().token == fake_az
    monkeypatch.setenv("MSI_ENDPOINT", "http://localhost:1/")
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://localhost:1/")
    with pytest.raises(CredentialUnavailableError, match="MSI_ENDPOINT belongs to another service"):
        kind().get_token(ARM)


@pytest.mark.parametrize("lists", [False, True], ids=["without a list", "with a list"])
def test_audience_not_supported(kind: Any, shell: CloudShellEmulator, fake_az: str, lists: bool) -> None:
    shell.list_audiences = lists
    shell.audiences = ["https://vault.azure.net", "https://graph.microsoft.com/"]
    credential = kind(endpoint=shell.endpoint)
    with pytest.raises(AudienceNotSupportedError) as raised:
        credential.get_token(ARM)
    assert raised.value.resource == RESOURCE
    assert raised.value.supported_audiences == (
        ("https://vault.azure.net", "https://graph.microsoft.com/") if lists else ()
    )
    assert RESOURCE in raised.value.message
    assert "az login" in raised.value.message
    assert ("It supports: https://vault.azure.net, https://graph.microsoft.com/" in raised.value.message) == lists
    assert isinstance(raised.value, ClientAuthenticationError)
    assert len(shell.requests) == 1
    assert credential.chained_with_az().token == fake_az


def test_a_portal_timeout_that_passes_is_not_seen(kind: Any, shell: CloudShellEmulator) -> None:
    shell.script(faults.portal_timeout(), faults.portal_timeout())
    assert kind(endpoint=shell.endpoint, retry_backoff_factor=0.01).get_token(ARM).token
    assert len(shell.requests) == 3


def test_retry_after_is_honoured(kind: Any, shell: CloudShellEmulator) -> None:
    shell.script(faults.server_error(429, 1))
    start = time.monotonic()
    assert kind(endpoint=shell.endpoint, retry_backoff_factor=0.01).get_token(ARM).token
    assert time.monotonic() - start >= 1
    assert len(shell.requests) == 2


def test_a_mixed_up_token_is_asked_for_again(kind: Any, shell: CloudShellEmulator) -> None:
    shell.script(faults.wrong_resource())
    assert kind(endpoint=shell.endpoint).get_token(ARM).token == shell.issue(RESOURCE)[0]
    assert len(shell.requests) == 2


@pytest.mark.parametrize("via", ["get_token", "get_token_info"])
def test_claims_are_refused_without_asking(kind: Any, shell: CloudShellEmulator, via: str) -> None:
    credential = kind(endpoint=shell.endpoint)
    with pytest.raises(CredentialUnavailableError, match=r"az login --claims-challenge eyJhIjoxfQ=="):
        if via == "get_token":
            credential.get_token(ARM, claims='{"a":1}')
        else:
            credential.get_token_info(ARM, options={"claims": '{"a":1}'})
    assert shell.requests == []


@pytest.mark.parametrize("cached", [False, True])
def test_another_tenant_is_refused(kind: Any, shell: CloudShellEmulator, fake_az: str, cached: bool) -> None:
    credential = kind(endpoint=shell.endpoint)
    if cached:
        credential.get_token(ARM)
    other = "99999999-0000-4000-8000-000000000000"
    with pytest.raises(CredentialUnavailableError, match=f"az login --tenant {other}") as raised:
        credential.get_token(ARM, tenant_id=other)
    assert shell.identity.tenant_id in raised.value.message
    with pytest.raises(CredentialUnavailableError):
        credential.get_token_info(ARM, options={"tenant_id": other})


@pytest.mark.parametrize("cached", [False, True])
def test_the_same_tenant_passes(kind: Any, shell: CloudShellEmulator, cached: bool) -> None:
    credential = kind(endpoint=shell.endpoint)
    if cached:
        credential.get_token(ARM)
    assert credential.get_token(ARM, tenant_id=shell.identity.tenant_id.upper()).token
    options = {"claims": None, "tenant_id": shell.identity.tenant_id, "enable_cae": True}
    assert credential.get_token_info(ARM, options=options).token
    assert len(shell.requests) == 1


def test_an_opaque_token_is_of_the_tenant_that_the_environment_names(
    kind: Any, misbehaving: Callable[[Behaviour], MisbehavingServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = misbehaving(peer.reply(body()))
    with pytest.raises(CredentialUnavailableError, match="an unknown tenant"):
        kind(endpoint=server.endpoint).get_token(ARM, tenant_id=A_TENANT)
    monkeypatch.setenv("ACC_TID", A_TENANT)
    assert kind(endpoint=server.endpoint).get_token(ARM, tenant_id=A_TENANT).token == CANARY
    with pytest.raises(CredentialUnavailableError, match=f"signed in to tenant {A_TENANT} only"):
        kind(endpoint=server.endpoint).get_token(ARM, tenant_id=ANOTHER_TENANT)


def test_proof_of_possession_is_refused(kind: Any, shell: CloudShellEmulator) -> None:
    credential = kind(endpoint=shell.endpoint)
    with pytest.raises(CredentialUnavailableError, match="proof-of-possession"):
        credential.get_token_info(ARM, options={"pop": {"nonce": "n"}})
    with pytest.raises(CredentialUnavailableError, match="proof-of-possession"):
        credential.get_token(ARM, pop={"nonce": "n"})
    assert shell.requests == []


@pytest.mark.parametrize(
    "scopes", [(), (ARM, "vault"), ("vault", ARM), ("",), ("a b",), ("a\n",), (None,), (["x"],), ("/.default",)]
)
def test_the_callers_mistakes_are_value_errors(kind: Any, shell: CloudShellEmulator, scopes: Any) -> None:
    credential = kind(endpoint=shell.endpoint)
    with pytest.raises(ValueError, match="scope"):
        credential.get_token(*scopes)
    assert shell.requests == []


def test_proxies_and_netrc_are_ignored(
    kind: Any,
    shell: CloudShellEmulator,
    misbehaving: Callable[[Behaviour], MisbehavingServer],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    proxy = misbehaving(peer.reply(body()))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy.endpoint)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    assert kind(endpoint=shell.endpoint).get_token(ARM).token
    assert proxy.requests == []
    assert "authorization" not in shell.requests[0].headers


def test_the_request_is_the_documented_one(kind: Any, shell: CloudShellEmulator) -> None:
    kind(endpoint=shell.endpoint).get_token(ARM)
    (asked,) = shell.requests
    assert (asked.method, asked.path) == ("POST", "/oauth2/token")
    assert asked.parameters == {"resource": RESOURCE}
    assert asked.headers["metadata"] == "true"
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert asked.headers["user-agent"].startswith("azsdk-python-cloudshell-credential/")


@pytest.mark.parametrize(
    "scopes",
    [
        ("User.Read",),
        ("User.Read", "Mail.Read"),
        ("https://graph.microsoft.com/User.Read", "Mail.Read"),
        ("https://graph.microsoft.com/User.Read", "https://graph.microsoft.com/Mail.Read"),
        ("https://graph.microsoft.com/.default", "00000003-0000-0000-c000-000000000000/Mail.Read"),
    ],
    ids=" and ".join,
)
def test_scopes_of_one_resource_are_one_request_for_it(
    kind: Any, shell: CloudShellEmulator, scopes: tuple[str, ...]
) -> None:
    # As msgraph-sdk passes them through.
    credential = kind(endpoint=shell.endpoint)
    first = credential.get_token(*scopes).token
    assert credential.get_token(*scopes).token == first
    assert [asked.resource.rstrip("/") for asked in shell.requests] == ["https://graph.microsoft.com"]


@pytest.mark.parametrize("scopes", [(ARM, VAULT), (ARM, "User.Read")], ids=" and ".join)
def test_scopes_of_several_resources_are_left_to_the_rest_of_a_chain(
    kind: Any, shell: CloudShellEmulator, scopes: tuple[str, ...]
) -> None:
    with pytest.raises(CredentialUnavailableError, match=r"Ask for one resource's scopes at a time\.$") as raised:
        kind(endpoint=shell.endpoint).get_token(*scopes)
    assert RESOURCE in raised.value.message
    assert shell.requests == []


def test_a_permission_of_graph_is_that_of_the_cloud(
    kind: Any, shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACC_CLOUD", "Fairfax")
    shell.audiences = ["https://graph.microsoft.us/"]
    assert kind(endpoint=shell.endpoint).get_token("User.Read").token


@pytest.mark.parametrize(
    ("scope", "meant"),
    [
        ("https://myvault.vault.azure.net/.default", "https://vault.azure.net/.default"),
        ("https://graph.microsoft.com/v1.0/.default", "https://graph.microsoft.com/.default"),
        ("https://myvault.vault.usgovcloudapi.net/.default", "https://vault.usgovcloudapi.net/.default"),
    ],
)
def test_a_scope_made_of_a_services_url_names_the_right_one(
    kind: Any, shell: CloudShellEmulator, scope: str, meant: str
) -> None:
    with pytest.raises(AudienceNotSupportedError, match=re.escape(f"Use the scope {meant}.") + "$"):
        kind(endpoint=shell.endpoint).get_token(scope)
    # Asked for as it was written: somebody may have registered it.
    assert [f"{asked.resource}/.default" for asked in shell.requests] == [scope]


def test_an_error_of_entras_is_not_asked_about_again(kind: Any, shell: CloudShellEmulator) -> None:
    shell.script(faults.error(400, "temporarily_unavailable", "AADSTS90033: A transient error has occurred."))
    with pytest.raises(CredentialUnavailableError, match="AADSTS90033: A transient error has occurred"):
        kind(endpoint=shell.endpoint, retry_backoff_factor=0.01).get_token(ARM)
    assert len(shell.requests) == 1


def test_a_name_where_a_scope_belongs_is_the_callers_mistake(kind: Any, shell: CloudShellEmulator) -> None:
    with pytest.raises(ValueError, match=r"'vault' is not a scope: use https://vault\.azure\.net/\.default"):
        kind(endpoint=shell.endpoint).get_token("vault")
    assert shell.requests == []


def test_outside_cloud_shell_scopes_are_another_credentials_business(kind: Any, fake_az: str) -> None:
    with pytest.raises(CredentialUnavailableError, match="not Azure Cloud Shell"):
        kind().get_token("vault")


@pytest.mark.parametrize("variable", ["MSI_SECRET", "IDENTITY_ENDPOINT"])
def test_outside_cloud_shell_the_variable_that_says_so_is_named(
    kind: Any, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("MSI_ENDPOINT", "http://127.0.0.1:41234/msi/token")
    monkeypatch.setenv(variable, "x")
    with pytest.raises(CredentialUnavailableError, match=f"belongs to another service, because {variable} is set too"):
        kind().get_token(ARM)


def test_two_hours_ahead_the_error_names_the_clock(
    kind: Any, misbehaving: Callable[[Behaviour], MisbehavingServer]
) -> None:
    server = misbehaving(peer.reply(body(expires_on=int(time.time()) - 7200 + 3900, expires_in="3900")))
    with pytest.raises(CredentialUnavailableError, match="Set the clock of this machine, which may be 2 hours ahead"):
        kind(endpoint=server.endpoint).get_token(ARM)


def test_two_hours_behind_the_token_lives_no_longer_than_the_endpoint_says(
    kind: Any, misbehaving: Callable[[Behaviour], MisbehavingServer], log: Everything
) -> None:
    start = int(time.time())
    server = misbehaving(peer.reply(body(expires_on=start + 7200 + 3899, expires_in="3899")))
    token = kind(endpoint=server.endpoint).get_token(ARM)
    assert start + 3899 <= token.expires_on < start + 4499
    assert any("The clock of this machine seems to be 2 hours behind" in line for line in log.lines)
