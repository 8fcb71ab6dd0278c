"""Unmodified Azure SDK clients in an emulated Azure: the package's main job."""

from __future__ import annotations

import os
import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity import AzureCliCredential, ChainedTokenCredential, CredentialUnavailableError
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.compute.aio import ComputeManagementClient as AsyncComputeManagementClient

from azure_cloudshell_credential import CloudShellAuth, CloudShellCredential
from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator, EmulatedAzure

from .conftest import ARM, run_with_tls

NAMES = ["web-01", "web-02", "sql-01", "build-agent", "jumpbox"]


SUBSCRIPTION = "00000000-1111-4222-8333-444444444444"
MANAGER = "https://management.azure.com"


@pytest.fixture
def azure(shell: CloudShellEmulator) -> Iterator[EmulatedAzure]:
    """With this process inside."""
    with EmulatedAzure(shell) as azure, azure.as_environment():
        yield azure


@pytest.fixture
def client(azure: EmulatedAzure) -> Iterator[Callable[..., Any]]:
    """Makes clients as a user does, and closes them."""
    with ExitStack() as stack:

        def make(credential: Any, subscription_id: str = SUBSCRIPTION, **options: Any) -> Any:
            return stack.enter_context(ComputeManagementClient(credential, subscription_id, **options))

        yield make


def test_virtual_machines_are_listed_over_all_pages(azure: EmulatedAzure, client: Callable[..., Any]) -> None:
    machines = client(CloudShellCredential()).virtual_machines.list_all()
    assert [machine.name for machine in machines] == NAMES
    assert len(azure.resource_manager.requests) == 3
    assert len(azure.shell.requests) == 1


def test_the_async_client_lists_them_too(azure: EmulatedAzure) -> None:
    async def main() -> list[str | None]:
        async with (
            AsyncCloudShellCredential() as credential,
            AsyncComputeManagementClient(credential, SUBSCRIPTION) as compute,
        ):
            return [machine.name async for machine in compute.virtual_machines.list_all()]

    assert run_with_tls(main()) == NAMES
    assert len(azure.shell.requests) == 1


def rejection(call: Any) -> HttpResponseError:
    with pytest.raises(HttpResponseError) as raised:
        list(call())
    return raised.value


def state_of(client: Any, group: str, name: str) -> str:
    return str(client.virtual_machines.instance_view(group, name).statuses[1].code)


def test_machines_of_a_group_are_listed_shown_and_switched(azure: EmulatedAzure, client: Callable[..., Any]) -> None:
    compute = client(CloudShellCredential())
    machines = compute.virtual_machines
    assert [machine.name for machine in machines.list("shop-prod")] == ["web-01", "web-02", "sql-01"]
    assert machines.get("ci", "build-agent").location == "eastus"
    assert state_of(compute, "ci", "build-agent") == "PowerState/deallocated"
    machines.begin_start("ci", "build-agent").result()
    assert state_of(compute, "ci", "build-agent") == "PowerState/running"
    machines.begin_power_off("ci", "build-agent").result()
    assert state_of(compute, "ci", "build-agent") == "PowerState/stopped"
    machines.begin_restart("ci", "build-agent").result()
    assert state_of(compute, "ci", "build-agent") == "PowerState/running"
    machines.begin_deallocate("ci", "build-agent").result()
    assert state_of(compute, "ci", "build-agent") == "PowerState/deallocated"
    with pytest.raises(HttpResponseError, match=r"virtualMachines/nobody' under resource group 'ci' was not found"):
        machines.get("ci", "nobody")
    with pytest.raises(HttpResponseError, match="Nothing is served"):
        list(machines.list("no-such-group"))
    with pytest.raises(HttpResponseError, match="Nothing is served"):
        machines.begin_redeploy("ci", "build-agent")


OF_THE_SUBSCRIPTION = f"subscriptions/{SUBSCRIPTION}"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("tenants", ["11111111-aaaa-4bbb-8ccc-222222222222"]),
        ("subscriptions", ["Contoso Trial (expired)", "Contoso Pay-As-You-Go"]),
        (OF_THE_SUBSCRIPTION, ["Contoso Pay-As-You-Go"]),
        (f"{OF_THE_SUBSCRIPTION}/locations", ["eastus", "northeurope", "westeurope"]),
        (f"{OF_THE_SUBSCRIPTION}/resourceGroups", ["ops", "ci", "shop-prod"]),
        (f"{OF_THE_SUBSCRIPTION}/resourcegroups/ci", ["ci"]),
    ],
)
def test_what_else_is_documented_is_served(azure: EmulatedAzure, path: str, found: list[str]) -> None:
    options: dict[str, Any] = {"auth": CloudShellAuth(), "timeout": 5}
    content = requests.get(f"{MANAGER}/{path}?api-version=2022-12-01", **options).json()
    items = content.get("value", [content])
    named = [item.get("name") or item.get("displayName") or item["tenantId"] for item in items]
    assert named == found
    refused = requests.get(f"{MANAGER}/{path}", **options)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "MissingApiVersionParameter")


@pytest.mark.parametrize(
    "path", ["nothing", f"{OF_THE_SUBSCRIPTION}/nothing", f"{OF_THE_SUBSCRIPTION}/resourceGroups/x"]
)
def test_what_is_not_served_is_answered_as_resource_manager_does(azure: EmulatedAzure, path: str) -> None:
    url = f"{MANAGER}/{path}?api-version=2022-12-01"
    refused = requests.get(url, auth=CloudShellAuth(), timeout=5)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "InvalidResourceType")


def test_an_expired_token_is_rejected(azure: EmulatedAzure, client: Callable[..., Any]) -> None:
    compute = client(CloudShellCredential())
    list(compute.virtual_machines.list_all())
    azure.shell.revoke_tokens()
    error = rejection(compute.virtual_machines.list_all)
    assert error.status_code == 401
    assert "(ExpiredAuthenticationToken)" in error.message


def test_a_token_for_another_audience_is_rejected(azure: EmulatedAzure, client: Callable[..., Any]) -> None:
    compute = client(CloudShellCredential(), credential_scopes=["https://vault.azure.net/.default"])
    assert "(InvalidAuthenticationTokenAudience)" in rejection(compute.virtual_machines.list_all).message


def test_a_token_of_another_tenant_is_rejected(azure: EmulatedAzure, client: Callable[..., Any]) -> None:
    with EmulatedAzure(azure.shell, subscription_tenant_id="another-tenant") as other, other.as_environment():
        error = rejection(client(CloudShellCredential()).virtual_machines.list_all)
    assert "(InvalidAuthenticationTokenTenant)" in error.message
    assert "must match the tenant 'https://sts.windows.net/another-tenant/'" in error.message


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "AuthenticationFailed"),
        ("Basic abc", "AuthenticationFailedInvalidHeader"),
        ("Bearer nonsense", "InvalidAuthenticationToken"),
        ("Bearer eyJhbGciOiJub25lIn0.eyJhdWQiOiJ4In0.", "InvalidAuthenticationToken"),
    ],
)
def test_a_missing_or_forged_token_is_rejected(azure: EmulatedAzure, header: str | None, code: str) -> None:
    headers = {} if header is None else {"Authorization": header}
    reply = requests.get(f"{MANAGER}/subscriptions", headers=headers, timeout=5)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, code)
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")


def test_an_unknown_subscription_is_not_found(azure: EmulatedAzure, client: Callable[..., Any]) -> None:
    compute = client(CloudShellCredential(), "ffffffff-0000-4000-8000-000000000000")
    assert "(SubscriptionNotFound)" in rejection(compute.virtual_machines.list_all).message


CHALLENGE = '{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}'


def test_a_claims_challenge_ends_in_a_clear_error(azure: EmulatedAzure, client: Callable[..., Any]) -> None:
    azure.resource_manager.challenge_claims(CHALLENGE)
    with pytest.raises(CredentialUnavailableError, match=r"az login --claims-challenge eyJ"):
        list(client(CloudShellCredential()).virtual_machines.list_all())
    assert len(azure.resource_manager.requests) == 1


def test_a_claims_challenge_of_the_async_client_does_too(azure: EmulatedAzure) -> None:
    azure.resource_manager.challenge_claims(CHALLENGE)

    async def main() -> None:
        async with (
            AsyncCloudShellCredential() as credential,
            AsyncComputeManagementClient(credential, SUBSCRIPTION) as compute,
        ):
            async for _ in compute.virtual_machines.list_all():
                pass

    with pytest.raises(CredentialUnavailableError, match=r"az login --claims-challenge eyJ"):
        run_with_tls(main())
    assert len(azure.resource_manager.requests) == 1


def test_in_a_chain_a_claims_challenge_goes_to_the_next_credential(
    azure: EmulatedAzure, client: Callable[..., Any]
) -> None:
    class Interactive:
        """Stands in for a credential that can satisfy claims."""

        asked: list[dict[str, Any]] = []

        def get_token(self, *scopes: str, **options: Any) -> Any:
            self.asked.append(options)
            azure.resource_manager.challenge_claims(None)
            return CloudShellCredential().get_token(*scopes)

    azure.resource_manager.challenge_claims(CHALLENGE)
    second = Interactive()
    chain = ChainedTokenCredential(CloudShellCredential(), second)
    assert len(list(client(chain).virtual_machines.list_all())) == len(NAMES)
    assert second.asked == [{"claims": CHALLENGE}]


def test_a_chain_with_az_is_reached_when_cloud_shell_denies(
    azure: EmulatedAzure, client: Callable[..., Any], fake_az: str
) -> None:
    azure.shell.deny("https://management.azure.com/")
    chain = ChainedTokenCredential(CloudShellCredential(), AzureCliCredential())
    # az's token is not one of the emulator's, so the stand-in rejects it: az was reached.
    with pytest.raises(ClientAuthenticationError, match="InvalidAuthenticationToken"):
        list(client(chain).virtual_machines.list_all())


def test_rest_calls_with_requests(azure: EmulatedAzure) -> None:
    with requests.Session() as session:
        session.auth = CloudShellAuth()
        url = f"{MANAGER}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/virtualMachines"
        for _ in range(2):
            page = session.get(url, params={"api-version": "2024-07-01"}, timeout=5).json()
            assert [machine["name"] for machine in page["value"]] == NAMES[:2]
        assert session.get(url, timeout=5).json()["error"]["code"] == "MissingApiVersionParameter"
    assert len(azure.shell.requests) == 1


@pytest.mark.parametrize("cloud", ["management.usgovcloudapi.net", "management.chinacloudapi.cn"])
def test_the_sovereign_clouds_take_tokens_of_their_own(azure: EmulatedAzure, cloud: str) -> None:
    url = f"https://{cloud}/subscriptions?api-version=2022-12-01"
    azure.shell.audiences = None
    assert requests.get(url, auth=CloudShellAuth(), timeout=5).status_code == 200
    public = CloudShellAuth("https://management.azure.com/.default")
    refused = requests.get(url, auth=public, timeout=5)
    assert refused.json()["error"]["code"] == "InvalidAuthenticationTokenAudience"


def test_every_other_host_is_refused_and_listed(azure: EmulatedAzure, log: Any) -> None:
    with pytest.raises(requests.exceptions.ProxyError, match=r"403 graph\.microsoft\.com:443 is not emulated"):
        requests.get("https://graph.microsoft.com/v1.0/me", timeout=5)
    for url in ("http://example.com/a?b", "http://management.azure.com/"):
        reply = requests.get(url, timeout=5)
        assert (reply.status_code, reply.text) == (403, f"{url.partition('?')[0]} is not emulated\n")
    with pytest.raises(requests.exceptions.ProxyError):
        requests.get("https://management.azure.com:8443/", timeout=5)
    assert azure.refused == [
        "graph.microsoft.com:443",
        "http://example.com/a",
        "http://management.azure.com/",
        "management.azure.com:8443",
    ]
    assert sum("nothing leaves this machine" in line for line in log.lines) == len(azure.refused)
    assert azure.resource_manager.requests == []
    azure.reset()
    assert azure.refused == []


@pytest.mark.parametrize(
    "sent", [b"", b"\r\n\r\n", b"CONNECT\r\n\r\n", b"CONNECT \x1b]0;title\x07:443 HTTP/1.1\r\n\r\n", b"x" * 20_000]
)
def test_what_is_no_request_to_a_proxy_is_refused(azure: EmulatedAzure, sent: bytes, log: Any) -> None:
    port = int(azure.environment["HTTPS_PROXY"].rpartition(":")[2])
    # What is still being sent when it is refused is reset.
    with socket.create_connection(("127.0.0.1", port), 5) as connection, suppress(OSError):
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert b" 200 " not in connection.recv(4096)
    assert all(line.isprintable() for line in [*azure.refused, *log.lines])
    assert CloudShellCredential().get_token(ARM).token


def test_a_host_header_of_another_host_is_not_served(azure: EmulatedAzure) -> None:
    reply = requests.get(f"{MANAGER}/", headers={"Host": "graph.microsoft.com"}, timeout=5)
    assert reply.status_code == 421


def test_the_standard_librarys_client_is_led_there_too(azure: EmulatedAzure) -> None:
    request = urllib.request.Request(f"{MANAGER}/subscriptions?api-version=2022-12-01")
    request.add_header("Authorization", f"Bearer {CloudShellCredential().get_token(ARM).token}")
    with urllib.request.urlopen(request, timeout=5) as reply:
        assert reply.status == 200


def test_a_client_that_ignores_proxies_does_not_trust_azure_itself(azure: EmulatedAzure) -> None:
    # Its own CA is the only one in the file: a real certificate would be refused before a token is sent.
    context = ssl.create_default_context()
    assert len(context.get_ca_certs()) == 1


def test_the_sign_in_host_describes_itself_and_signs_nobody_in(azure: EmulatedAzure) -> None:
    base = "https://login.microsoftonline.com/common"
    for path in ("v2.0/.well-known/openid-configuration", "/v2.0/.well-known/openid-configuration"):
        document = requests.get(f"{base}/{path}", timeout=5).json()
        assert document["token_endpoint"] == f"{base}/oauth2/v2.0/token"
    refused = requests.post(document["token_endpoint"], {"grant_type": "x"}, timeout=5)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")
    assert requests.get(f"{base}/anything", timeout=5).status_code == 404


def test_msal_gets_its_token_unmodified(on_the_default_port: CloudShellEmulator) -> None:
    import msal

    with EmulatedAzure(on_the_default_port) as azure, azure.as_environment():
        application = msal.PublicClientApplication("04b07795-8ddb-461a-bbee-02f9e1bf7b46")
        result = application.acquire_token_interactive([ARM], prompt="none")
        for session in (application.http_client, getattr(application.http_client, "_http_client", None)):
            if session is not None and hasattr(session, "close"):
                session.close()
    assert result["access_token"] == on_the_default_port.issue("https://management.azure.com")[0]


def test_aiohttp_is_led_there_also_when_it_was_imported_before(azure: EmulatedAzure) -> None:
    import aiohttp

    async def main() -> int:
        async with aiohttp.ClientSession(trust_env=True) as session, session.get(f"{MANAGER}/") as reply:
            return reply.status

    assert run_with_tls(main()) == 401


def test_afterwards_the_environment_is_as_before(shell: CloudShellEmulator) -> None:
    before = dict(os.environ)
    for _ in range(2):
        with EmulatedAzure(shell) as azure, azure.as_environment():
            assert os.environ["HTTPS_PROXY"] == os.environ["https_proxy"]
            ca_file = os.environ["SSL_CERT_FILE"]
        assert dict(os.environ) == before
        assert not Path(ca_file).exists()
