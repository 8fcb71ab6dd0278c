"""``CloudShellAuth``: the user's token on REST calls, against the emulated Azure Resource Manager."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import AzureCliCredential, CredentialUnavailableError

from azure_cloudshell_credential import CloudShellAuth, CloudShellCredential, DefaultCloudShellCredential
from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator, EmulatedAzure, faults

CHALLENGE = '{"access_token":{"nbf":{"essential":true,"value":"1795000000"}}}'
SUBSCRIPTIONS = "https://management.azure.com/subscriptions?api-version=2022-12-01"
START = (
    "https://management.azure.com/subscriptions/00000000-1111-4222-8333-444444444444/resourceGroups/ci/providers/"
    "Microsoft.Compute/virtualMachines/build-agent/start?api-version=2024-07-01"
)


@pytest.fixture
def azure(shell: CloudShellEmulator) -> Iterator[EmulatedAzure]:
    """With this process inside."""
    with EmulatedAzure(shell) as azure, azure.as_environment():
        yield azure


@pytest.mark.parametrize("client", [requests, httpx])
def test_it_works_with_requests_and_httpx(azure: EmulatedAzure, client: Any) -> None:
    reply = client.get(SUBSCRIPTIONS, auth=CloudShellAuth(), timeout=5)
    assert reply.status_code == 200
    assert [each["state"] for each in reply.json()["value"]] == ["Disabled", "Enabled"]


def test_the_token_is_cached_and_refreshed(in_cloud_shell: CloudShellEmulator) -> None:
    auth = CloudShellAuth("https://vault.azure.net/.default")
    in_cloud_shell.lifetime = 2
    request = requests.Request("GET", "https://localhost/", auth=auth)
    first = request.prepare().headers["Authorization"]
    assert request.prepare().headers["Authorization"] == first
    time.sleep(2.1)
    assert request.prepare().headers["Authorization"] != first
    assert [asked.resource for asked in in_cloud_shell.requests] == ["https://vault.azure.net"] * 2


def test_a_token_that_has_expired_for_the_service_is_replaced_once(azure: EmulatedAzure) -> None:
    with requests.Session() as session:
        session.auth = CloudShellAuth()
        assert session.get(SUBSCRIPTIONS, timeout=5).status_code == 200
        azure.shell.revoke_tokens()
        reply = session.get(SUBSCRIPTIONS, timeout=5)
        assert reply.status_code == 200
        assert [before.status_code for before in reply.history] == [401]
        # With a body too.
        azure.shell.revoke_tokens()
        assert session.post(START, json={"a": "body"}, timeout=5).status_code == 200
    assert len(azure.shell.requests) == 3


def test_a_credential_that_takes_scopes_and_nothing_else(azure: EmulatedAzure) -> None:
    held = [azure.shell.issue("https://management.azure.com/")]
    azure.shell.revoke_tokens()

    class Plain:
        def get_token(self, *scopes: str) -> AccessToken:
            return AccessToken(*(held.pop() if held else azure.shell.issue("https://management.azure.com/")))

    plain: Any = Plain()
    reply = requests.get(SUBSCRIPTIONS, auth=CloudShellAuth(credential=plain), timeout=5)
    assert reply.status_code == 200
    assert [before.status_code for before in reply.history] == [401]


def test_where_there_is_no_other_token_the_401_is_the_answer(azure: EmulatedAzure) -> None:
    class Fixed:
        asked = 0

        def get_token(self, *scopes: str, **_: Any) -> AccessToken:
            self.asked += 1
            return AccessToken(token, int(time.time()) + 3600)

    token = CloudShellCredential().get_token("https://management.azure.com/.default").token
    azure.shell.revoke_tokens()
    fixed = Fixed()
    reply = requests.get(SUBSCRIPTIONS, auth=CloudShellAuth(credential=fixed), timeout=5)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "ExpiredAuthenticationToken")
    assert fixed.asked == 2


def test_a_claims_challenge_is_answered_with_a_token_that_satisfies_it(azure: EmulatedAzure) -> None:
    asked: list[Any] = []

    class Interactive:
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            asked.append(options)
            if "claims" in options:
                azure.resource_manager.challenge_claims(None)
                azure.shell.revoke_tokens()
            return CloudShellCredential().get_token(*scopes)

    azure.resource_manager.challenge_claims(CHALLENGE)
    reply = requests.get(SUBSCRIPTIONS, auth=CloudShellAuth(credential=Interactive()), timeout=5)
    assert reply.status_code == 200
    assert asked == [{}, {"claims": CHALLENGE}]


def test_a_claims_challenge_that_nobody_can_satisfy_says_what_to_run(azure: EmulatedAzure) -> None:
    azure.resource_manager.challenge_claims(CHALLENGE)
    with pytest.raises(ClientAuthenticationError, match=r"az login --claims-challenge eyJ\w+=*"):
        requests.get(SUBSCRIPTIONS, auth=CloudShellAuth(), timeout=5)


def test_where_no_token_answers_a_claims_challenge_the_connection_is_free_again(azure: EmulatedAzure) -> None:
    replies: list[requests.Response] = []

    class Keeping(requests.adapters.HTTPAdapter):
        def send(self, *arguments: Any, **options: Any) -> requests.Response:
            replies.append(super().send(*arguments, **options))
            return replies[-1]

    azure.resource_manager.challenge_claims(CHALLENGE)
    with requests.Session() as session:
        session.mount("https://", Keeping())
        with pytest.raises(ClientAuthenticationError):
            session.get(SUBSCRIPTIONS, auth=CloudShellAuth(), timeout=5)
        assert [reply.raw.closed for reply in replies] == [True]


def test_another_401_is_the_answer(azure: EmulatedAzure) -> None:
    auth = CloudShellAuth("https://vault.azure.net/.default")
    assert requests.get(SUBSCRIPTIONS, auth=auth, timeout=5).status_code == 401
    assert len(azure.shell.requests) == 1


@pytest.mark.parametrize("url", ["http://management.azure.com/", "HTTP://localhost/"])
@pytest.mark.parametrize("client", [requests, httpx])
def test_a_token_is_sent_over_https_only(in_cloud_shell: CloudShellEmulator, url: str, client: Any) -> None:
    with pytest.raises(ValueError, match="over HTTPS only"):
        client.get(url, auth=CloudShellAuth(), timeout=5)
    assert in_cloud_shell.requests == []


def test_our_errors_are_raised(in_cloud_shell: CloudShellEmulator) -> None:
    in_cloud_shell.script(faults.interaction_required())
    with pytest.raises(CredentialUnavailableError, match="AADSTS50076"):
        requests.get(SUBSCRIPTIONS, auth=CloudShellAuth(credential=CloudShellCredential()), timeout=5)


@pytest.mark.parametrize("client", [requests.Request, httpx.Request])
@pytest.mark.parametrize(
    ("url", "resource"),
    [
        ("https://management.azure.com/subscriptions", "https://management.azure.com"),
        ("https://management.usgovcloudapi.net/subscriptions", "https://management.usgovcloudapi.net"),
        ("https://GRAPH.microsoft.com:443/v1.0/me", "https://graph.microsoft.com"),
        ("https://contoso.vault.azure.net/secrets/x?api-version=7.4", "https://vault.azure.net"),
        ("https://contoso.vault.azure.cn/secrets/x", "https://vault.azure.cn"),
        ("https://contoso.blob.core.windows.net/container", "https://storage.azure.com"),
    ],
)
def test_the_scope_follows_the_host(in_cloud_shell: CloudShellEmulator, client: Any, url: str, resource: str) -> None:
    in_cloud_shell.audiences = None
    request = client("GET", url)
    CloudShellAuth()(request.prepare() if client is requests.Request else request)
    assert [asked.resource for asked in in_cloud_shell.requests] == [resource]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.net/",
        "https://localhost/",
        "https://management.azure.com.example.net/",
        "https://management.azure.com@example.net/",
        "https://user:x@management.azure.com/",
        "https://example.net/?https://management.azure.com/",
        "https://contoso.azurewebsites.net/",
    ],
)
def test_no_token_goes_to_a_host_of_no_known_service(in_cloud_shell: CloudShellEmulator, url: str) -> None:
    request = requests.Request("GET", url).prepare()
    with pytest.raises(
        ValueError, match=r"is not a host of a known service: pass its scope, CloudShellAuth\(scope="
    ) as raised:
        CloudShellAuth()(request)
    assert "user" not in str(raised.value)
    assert "Bearer" not in request.headers.get("Authorization", "")
    assert in_cloud_shell.requests == []
    CloudShellAuth("https://management.azure.com/.default")(request)
    assert request.headers["Authorization"].startswith("Bearer ")


def test_az_is_started_once_for_many_requests(azure: EmulatedAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    with azure.shell.programs("az") as programs:
        for name, value in programs.items():
            monkeypatch.setenv(name, value)
        azure.shell.az_login()
        auth = CloudShellAuth(credential=AzureCliCredential())
        for _ in range(5):
            assert requests.get(SUBSCRIPTIONS, auth=auth, timeout=5).status_code == 200
        assert len(azure.shell.az_calls) == 1
        # A token that the service takes no longer is forgotten all the same.
        azure.shell.revoke_tokens()
        assert requests.get(SUBSCRIPTIONS, auth=auth, timeout=5).status_code == 200
        assert len(azure.shell.az_calls) == 2


def test_it_uses_the_default_chain(in_cloud_shell: CloudShellEmulator) -> None:
    assert isinstance(CloudShellAuth()._credential, DefaultCloudShellCredential)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: CloudShellAuth("vault"), ValueError, "'vault' is not a scope: use https://vault.azure.net/.default"),
        (lambda: CloudShellAuth(CloudShellCredential()), TypeError, "pass a credential as credential="),  # type: ignore[arg-type]
        (lambda: CloudShellAuth(credential=AsyncCloudShellCredential()), TypeError, "is asynchronous"),  # type: ignore[arg-type]
        (lambda: CloudShellAuth(credential="x"), TypeError, "str is not a credential"),  # type: ignore[arg-type]
    ],
)
def test_mistakes_are_found_at_once(make: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        make()
