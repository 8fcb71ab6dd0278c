"""The emulator behaves as the endpoint is known to, and keeps strangers out."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from typing import Any

import jwt
import pytest
import requests
from azure.identity import AzureCliCredential, CredentialUnavailableError

from azure_cloudshell_credential import CloudShellCredential, DefaultCloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator, Identity, faults

from .clocks import ShiftedClock
from .conftest import ARM, claims_of

RESOURCE = "https://management.azure.com/"
METADATA = {"Metadata": "true"}


def ask(shell: CloudShellEmulator, resource: str = RESOURCE, **headers: str) -> requests.Response:
    return requests.post(shell.endpoint, {"resource": resource}, headers={**METADATA, **headers}, timeout=5)


def test_a_reply_has_the_published_form(shell: CloudShellEmulator) -> None:
    reply = ask(shell)
    assert reply.status_code == 200
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    content = reply.json()
    # azure-cli#14218: seven fields, all strings, compact.
    assert list(content) == [
        "access_token",
        "refresh_token",
        "expires_in",
        "expires_on",
        "not_before",
        "resource",
        "token_type",
    ]
    assert all(isinstance(value, str) for value in content.values())
    assert reply.text == json.dumps(content, separators=(",", ":"))
    assert content["refresh_token"] == ""
    assert int(content["expires_on"]) - int(content["not_before"]) == 3900
    assert content["resource"] == RESOURCE


@pytest.mark.parametrize(
    "path", ["/oauth2/token", "/metadata/identity/oauth2/token"], ids=["documented", "like a VM's"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_both_urls_and_both_methods_work(shell: CloudShellEmulator, path: str, method: str) -> None:
    fields = {"resource": RESOURCE}
    where: Any = {"params": fields} if method == "GET" else {"data": fields}
    reply = requests.request(method, shell.origin + path, headers=METADATA, timeout=5, **where)
    assert reply.json()["token_type"] == "Bearer"


@pytest.mark.parametrize(
    ("headers", "fields", "code", "message"),
    [
        ({}, {"resource": RESOURCE}, "bad_request_102", "Required metadata header not specified"),
        (METADATA, {}, "invalid_request", "Required audience parameter not specified"),
        (
            METADATA,
            {"resource": "https://azconfig.io/"},
            "AudienceNotSupported",
            "Audience https://azconfig.io/ is not a supported MSI token audience.",
        ),
    ],
)
def test_errors_have_the_published_form(
    shell: CloudShellEmulator, headers: dict[str, str], fields: dict[str, str], code: str, message: str
) -> None:
    reply = requests.post(shell.endpoint, fields, headers=headers, timeout=5)
    assert reply.status_code == 400
    assert reply.text == f'{{"error":{{"code":"{code}","message":"{message}"}}}}'


def test_the_older_error_lists_the_audiences(shell: CloudShellEmulator) -> None:
    shell.list_audiences = True
    shell.audiences = ["https://vault.azure.net", "https://graph.microsoft.com/"]
    assert ask(shell).json()["error"]["message"] == (
        f"Audience {RESOURCE} is not a supported MSI token audience. "
        "Supported audiences: https://vault.azure.net,https://graph.microsoft.com/"
    )


def test_the_portal_timeout_has_the_logged_size(shell: CloudShellEmulator) -> None:
    shell.script(faults.portal_timeout())
    # azure-cli#29057 logged 133 bytes for this resource.
    assert len(ask(shell, "https://cognitiveservices.azure.com").content) == 133


@pytest.mark.parametrize("path", ["/metadata", "/", "/oauth2/token/x", "/metadata/instance"])
def test_other_paths_are_not_found(shell: CloudShellEmulator, path: str) -> None:
    assert requests.get(shell.origin + path, headers=METADATA, timeout=5).status_code == 404


def test_other_methods_are_not_found(shell: CloudShellEmulator) -> None:
    assert requests.put(shell.endpoint, {"resource": RESOURCE}, headers=METADATA, timeout=5).status_code == 404


def test_unknown_parameters_are_ignored(shell: CloudShellEmulator) -> None:
    fields = {"resource": RESOURCE, "client_id": "x"}
    assert requests.post(shell.endpoint, fields, headers=METADATA, timeout=5).status_code == 200


def test_a_token_is_cached_until_it_expires(shell: CloudShellEmulator, mocker: Any) -> None:
    shifted = ShiftedClock(mocker)
    first = ask(shell).json()
    shifted.advance(shell.lifetime - 60)
    assert ask(shell).json()["access_token"] == first["access_token"]
    shifted.advance(61)
    assert ask(shell).json()["access_token"] != first["access_token"]


def test_tokens_verify_against_the_served_keys(shell: CloudShellEmulator) -> None:
    token = ask(shell).json()["access_token"]
    document = requests.get(shell.openid_configuration_url, timeout=5).json()
    keys = requests.get(document["jwks_uri"], timeout=5).json()
    key = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key.key, algorithms=["RS256"], audience=RESOURCE, issuer=document["issuer"])
    assert set(claims) >= set("aud iss iat nbf exp tid oid sub upn unique_name name".split())
    assert claims["iss"] == f"https://sts.windows.net/{shell.identity.tenant_id}/"
    assert claims["nbf"] <= time.time()


def test_another_user_has_another_name_and_object_id_and_the_same_user_the_same() -> None:
    ada, mallory = Identity(), Identity().changed(user="mallory")
    assert (ada.name, mallory.name) == ("Ada Example", "Mallory Example")
    assert ada.object_id != mallory.object_id
    assert mallory.changed(user=ada.user) == ada
    assert ada.changed(tenant_id="99999999-0000-4000-8000-000000000000").object_id == ada.object_id
    assert Identity(user="mallory") == mallory
    assert mallory.changed(object_id="x", user="grace").object_id == "x"


def test_who_signs_in_has_tokens_of_their_own(shell: CloudShellEmulator) -> None:
    first = claims_of(ask(shell).json()["access_token"])
    shell.sign_in(user="mallory")
    second = claims_of(ask(shell).json()["access_token"])
    assert (second["upn"], second["name"]) == ("mallory", "Mallory Example")
    assert first["oid"] != second["oid"]
    assert first["tid"] == second["tid"]
    assert shell.environment["ACC_OID"] == second["oid"]


def test_az_is_signed_in_as_whom_one_names(in_cloud_shell: CloudShellEmulator) -> None:
    def claims(user: str) -> dict[str, Any]:
        in_cloud_shell.az_login(user=user)
        return claims_of(AzureCliCredential().get_token(ARM).token)

    with in_cloud_shell.programs("az") as variables, in_cloud_shell.as_environment({**variables}):
        grace, mallory, ada = map(claims, ["grace@contoso.example", "mallory@contoso.example", "ada@contoso.example"])
    assert (grace["unique_name"], mallory["unique_name"]) == ("grace@contoso.example", "mallory@contoso.example")
    assert len({grace["oid"], mallory["oid"], ada["oid"]}) == 3
    assert ada["oid"] == in_cloud_shell.identity.object_id


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("portal-timeout", "'portal-timeout' is not a reply. Did you mean faults.portal_timeout()?"),
        ("expired", "'expired' is not a reply. Did you mean faults.expired_token()?"),
        ("x", "'x' is not a reply. Give one of faults, such as faults.hang()."),
        (faults.portal_timeout, "portal_timeout is a function, not a reply. Did you mean portal_timeout()?"),
        ([faults.hang()], "A list is not a reply. Give each reply by itself: script(*replies)."),
        (500, "500 is not a reply. Give one of faults, such as faults.hang()."),
        (None, "None is not a reply. Give one of faults, such as faults.hang()."),
    ],
    ids=["a name", "a part of one", "a letter", "a function", "a list", "a status", "nothing"],
)
def test_what_is_not_a_reply_is_refused_at_the_call(shell: CloudShellEmulator, given: Any, message: str) -> None:
    for method in (shell.script, shell.failing):
        with pytest.raises(TypeError) as raised:
            method(given)
        assert str(raised.value) == message
    with pytest.raises(TypeError, match="not a reply"):
        shell.script(faults.drop(), given)
    assert ask(shell).status_code == 200


def test_a_body_that_is_not_text_is_refused_where_it_is_made() -> None:
    with pytest.raises(TypeError, match="text, not dict"):
        faults.ScriptedReply(200, {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("portal-timout", "Did you mean 'portal-timeout'?"),
        ("nope", "Known are: signed-out, audience,"),
        ("", "Known are"),
    ],
)
def test_what_is_not_a_failure_of_az_is_refused(shell: CloudShellEmulator, given: str, hint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{given!r} is not a failure of az. {hint}")):
        shell.az_fails(given)


def test_the_last_requests_are_kept(shell: CloudShellEmulator, mocker: Any) -> None:
    mocker.patch("azure_cloudshell_credential.emulator._responder.KEPT", 3)
    for number in range(5):
        requests.post(shell.endpoint, {"resource": f"https://{number}.example"}, headers=METADATA, timeout=5)
    assert [asked.resource[8] for asked in shell.requests] == ["2", "3", "4"]


def test_who_is_signed_in_can_be_changed(shell: CloudShellEmulator) -> None:
    shell.sign_in(user="grace@fabrikam.example", tenant_id="99999999-0000-4000-8000-000000000000")
    token = CloudShellCredential(endpoint=shell.endpoint).get_token(ARM).token
    claims = claims_of(token)
    assert claims["upn"] == "grace@fabrikam.example"
    assert claims["iss"] == "https://sts.windows.net/99999999-0000-4000-8000-000000000000/"
    assert shell.environment["ACC_TID"] == claims["tid"]
    assert shell.identity.name == "Grace Example"


def test_audiences_can_be_denied_and_allowed(shell: CloudShellEmulator) -> None:
    shell.deny("https://management.azure.com/")
    assert ask(shell, "https://management.core.windows.net/").status_code == 400
    shell.deny("https://unknown.example")
    shell.allow("https://unknown.example")
    assert ask(shell, "https://unknown.example/").status_code == 200


def test_revoked_tokens_are_replaced(shell: CloudShellEmulator) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    shell.revoke_tokens()
    assert credential.get_token(ARM) == first
    assert ask(shell, "https://management.azure.com").json()["access_token"] != first.token
    shell.expire_tokens()
    assert credential.get_token(ARM) != first


def test_a_credential_can_be_told_to_forget_or_to_begin_anew(
    shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = CloudShellCredential()
    with pytest.raises(CredentialUnavailableError):
        credential.get_token(ARM)
    monkeypatch.setenv("MSI_ENDPOINT", shell.endpoint)
    credential._begin_anew()
    first = credential.get_token(ARM).token
    credential._forget_tokens("another")
    assert credential.get_token(ARM).token == first
    assert len(shell.requests) == 1
    for number, forgotten in enumerate([(first,), ()], 2):
        credential._forget_tokens(*forgotten)
        assert credential.get_token(ARM).token == first
        assert len(shell.requests) == number


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example:50342"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "169.254.169.254"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"X-Forwarded-For": "10.0.0.1"},
    ],
)
def test_strangers_are_refused(shell: CloudShellEmulator, headers: dict[str, str]) -> None:
    reply = ask(shell, **headers)
    assert reply.status_code == 403
    assert "access_token" not in reply.text


@pytest.mark.parametrize("host", ["localhost:1", "LOCALHOST", "127.0.0.1:50342", "[::1]:50342"])
def test_loopback_hosts_are_served(shell: CloudShellEmulator, host: str) -> None:
    assert ask(shell, Host=host).status_code == 200


def test_a_large_request_is_refused(shell: CloudShellEmulator) -> None:
    reply = requests.post(shell.endpoint, {"resource": "x" * 1_000_000}, headers=METADATA, timeout=5)
    assert reply.status_code == 413


def test_it_listens_on_loopback_only(shell: CloudShellEmulator) -> None:
    listening = subprocess.run(["cat", "/proc/net/tcp"], capture_output=True, text=True, check=False).stdout
    if not listening:
        pytest.skip("needs /proc/net/tcp")
    port = f":{shell.port:04X}"
    addresses = [line.split()[1] for line in listening.splitlines()[1:] if line.split()[1].endswith(port)]
    assert {address.partition(":")[0] for address in addresses} == {"0100007F"}


def test_ipv6_clients_are_served_too(shell: CloudShellEmulator) -> None:
    if not socket.has_ipv6:
        pytest.skip("needs IPv6")
    try:
        socket.create_connection(("::1", shell.port), 1).close()
    except OSError:
        pytest.skip("needs ::1")
    assert CloudShellCredential(endpoint=f"http://[::1]:{shell.port}/oauth2/token").get_token(ARM).token


def test_a_port_in_use_is_a_clear_error(shell: CloudShellEmulator) -> None:
    with pytest.raises(OSError, match=f"port {shell.port} is in use"):
        CloudShellEmulator(port=shell.port).start()


def test_it_can_be_started_again(shell: CloudShellEmulator) -> None:
    other = CloudShellEmulator()
    for _ in range(2):
        with other:
            assert ask(other).status_code == 200
        other.stop()
    assert other.port != shell.port


def test_it_stops_at_once_with_connections_open() -> None:
    with CloudShellEmulator() as other:
        other.script(faults.hang())
        idle = socket.create_connection(("127.0.0.1", other.port))
        half = socket.create_connection(("127.0.0.1", other.port))
        half.sendall(b"POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\n")
        waiting = socket.create_connection(("127.0.0.1", other.port))
        waiting.sendall(
            b"POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nMetadata: true\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 10\r\n\r\nresource=x"
        )
        while not other.requests:
            time.sleep(0.01)
        start = time.monotonic()
    assert time.monotonic() - start < 2
    for connection in (idle, half, waiting):
        connection.close()


def test_instances_run_side_by_side() -> None:
    with CloudShellEmulator() as one, CloudShellEmulator() as two:
        two.deny(RESOURCE)
        assert (ask(one).status_code, ask(two).status_code) == (200, 400)
        assert (len(one.requests), len(two.requests)) == (1, 1)


def test_slow_and_malformed_clients_leave_it_serving_others(shell: CloudShellEmulator) -> None:
    import random

    generator = random.Random(1)
    open_connections = []
    for index in range(150):
        connection = socket.create_connection(("127.0.0.1", shell.port))
        start = [b"", b"POST /oauth2/token HTTP/1.1\r\n", b"POST /oauth2/token HTTP/1.1\r\nContent-Length: 9\r\n\r\nr"]
        connection.sendall(start[index % 3] + (generator.randbytes(generator.randrange(300)) if index % 2 else b"X-"))
        open_connections.append(connection)
    begin = time.monotonic()
    assert ask(shell).status_code == 200
    assert time.monotonic() - begin < 2
    for connection in open_connections:
        connection.close()


def test_the_process_can_be_put_into_it(shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSI_SECRET", "app service")
    monkeypatch.setenv("ACC_CLOUD", "Fairfax")
    with shell.as_environment():
        assert "MSI_SECRET" not in os.environ
        assert CloudShellCredential().endpoint == shell.endpoint
    assert os.environ["MSI_SECRET"] == "app service"
    assert os.environ["ACC_CLOUD"] == "Fairfax"
    assert "MSI_ENDPOINT" not in os.environ


def test_leaving_it_for_an_environment_with_a_certificate_that_is_gone(
    shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ID": "x", "CERTIFICATE_PATH": "/not-there.pem"}.items():
        monkeypatch.setenv(f"AZURE_CLIENT_{name}", value)
    monkeypatch.setenv("AZURE_TENANT_ID", "x")
    with shell.as_environment():
        credential = DefaultCloudShellCredential(exclude_powershell_credential=True)
        assert credential.get_token("https://vault.azure.net/.default").token
        chained = credential.credentials[0]
        assert chained.endpoint == shell.endpoint
    assert chained.endpoint is None


def test_scripted_replies_come_in_order(shell: CloudShellEmulator) -> None:
    shell.script(faults.server_error(503, 2), faults.wrong_resource("https://vault.azure.net"), faults.expired_token())
    first = ask(shell)
    assert (first.status_code, first.headers["Retry-After"]) == (503, "2")
    claims = claims_of(ask(shell).json()["access_token"])
    assert claims["aud"] == "https://vault.azure.net"
    assert int(ask(shell).json()["expires_on"]) < time.time()
    assert int(ask(shell).json()["expires_on"]) > time.time()
    assert [asked.status for asked in shell.requests] == [503, 200, 200, 200]


FORKED = """
import os, time
from azure_cloudshell_credential.emulator import CloudShellEmulator
shell = CloudShellEmulator().start()
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.close(writing)
    os.read(reading, 1)
    os._exit(0)
start = time.monotonic()
shell.stop()
print(time.monotonic() - start)
os.close(writing)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_it_stops_at_once_even_when_a_forked_process_holds_its_sockets() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert float(done.stdout) < 1


def test_it_can_be_started_and_stopped_again_and_again() -> None:
    shell = CloudShellEmulator()
    for _ in range(50):
        with shell:
            assert requests.get(shell.origin, timeout=5).status_code == 404
    shell.stop()
