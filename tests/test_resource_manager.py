"""The real ComputeManagementClient against the Resource Manager stand-in: the package's main job."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity import AzureCliCredential, ChainedTokenCredential, CredentialUnavailableError
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.compute.aio import ComputeManagementClient as AsyncComputeManagementClient

from azure_cloudshell_credential import CloudShellAuth, CloudShellCredential
from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator, faults
from azure_cloudshell_credential.emulator.anywhere import anywhere
from azure_cloudshell_credential.emulator.resource_manager import SUBSCRIPTION_ID, ResourceManagerStandIn

from .conftest import run_with_tls

NAMES = ["web-01", "web-02", "sql-01", "build-agent", "jumpbox"]


@pytest.fixture
def manager(shell: CloudShellEmulator) -> Iterator[ResourceManagerStandIn]:
    with ResourceManagerStandIn(shell) as manager:
        yield manager


@pytest.fixture
def client(manager: ResourceManagerStandIn) -> Iterator[Callable[..., Any]]:
    """Makes real clients of the stand-in, and closes them."""
    with ExitStack() as stack:

        def make(credential: Any, subscription_id: str = SUBSCRIPTION_ID, **options: Any) -> Any:
            return stack.enter_context(
                ComputeManagementClient(
                    credential,
                    subscription_id,
                    **{"base_url": manager.url, "connection_verify": manager.ca_file, **options},
                )
            )

        yield make


def test_virtual_machines_are_listed_over_all_pages(
    in_cloud_shell: CloudShellEmulator, manager: ResourceManagerStandIn, client: Callable[..., Any]
) -> None:
    machines = client(CloudShellCredential()).virtual_machines.list_all()
    assert [machine.name for machine in machines] == NAMES
    assert len(manager.requests) == 3
    assert len(in_cloud_shell.requests) == 1


def test_the_async_client_lists_them_too(in_cloud_shell: CloudShellEmulator, manager: ResourceManagerStandIn) -> None:
    async def main() -> list[str | None]:
        async with (
            AsyncCloudShellCredential() as credential,
            AsyncComputeManagementClient(
                credential, SUBSCRIPTION_ID, base_url=manager.url, connection_verify=manager.ca_file
            ) as compute,
        ):
            return [machine.name async for machine in compute.virtual_machines.list_all()]

    assert run_with_tls(main()) == NAMES
    assert len(in_cloud_shell.requests) == 1


def rejection(call: Any) -> HttpResponseError:
    with pytest.raises(HttpResponseError) as raised:
        list(call())
    return raised.value


def state_of(client: Any, group: str, name: str) -> str:
    return str(client.virtual_machines.instance_view(group, name).statuses[1].code)


def test_machines_of_a_group_are_listed_shown_and_switched(
    in_cloud_shell: CloudShellEmulator, client: Callable[..., Any]
) -> None:
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


OF_THE_SUBSCRIPTION = f"subscriptions/{SUBSCRIPTION_ID}"


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
def test_what_else_is_documented_is_served(
    in_cloud_shell: CloudShellEmulator, manager: ResourceManagerStandIn, path: str, found: list[str]
) -> None:
    options: dict[str, Any] = {"auth": CloudShellAuth(), "verify": manager.ca_file, "timeout": 5}
    content = requests.get(f"{manager.url}/{path}?api-version=2022-12-01", **options).json()
    items = content.get("value", [content])
    named = [item.get("name") or item.get("displayName") or item["tenantId"] for item in items]
    assert named == found
    refused = requests.get(f"{manager.url}/{path}", **options)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "MissingApiVersionParameter")


@pytest.mark.parametrize(
    "path", ["nothing", f"{OF_THE_SUBSCRIPTION}/nothing", f"{OF_THE_SUBSCRIPTION}/resourceGroups/x"]
)
def test_what_is_not_served_is_answered_as_resource_manager_does(
    in_cloud_shell: CloudShellEmulator, manager: ResourceManagerStandIn, path: str
) -> None:
    url = f"{manager.url}/{path}?api-version=2022-12-01"
    refused = requests.get(url, auth=CloudShellAuth(), verify=manager.ca_file, timeout=5)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "InvalidResourceType")


def test_an_expired_token_is_rejected(in_cloud_shell: CloudShellEmulator, client: Callable[..., Any]) -> None:
    compute = client(CloudShellCredential())
    list(compute.virtual_machines.list_all())
    in_cloud_shell.revoke_tokens()
    error = rejection(compute.virtual_machines.list_all)
    assert error.status_code == 401
    assert "(ExpiredAuthenticationToken)" in error.message


def test_a_token_for_another_audience_is_rejected(
    in_cloud_shell: CloudShellEmulator, client: Callable[..., Any]
) -> None:
    compute = client(CloudShellCredential(), credential_scopes=["https://vault.azure.net/.default"])
    assert "(InvalidAuthenticationTokenAudience)" in rejection(compute.virtual_machines.list_all).message


def test_a_token_of_another_tenant_is_rejected(in_cloud_shell: CloudShellEmulator, client: Callable[..., Any]) -> None:
    with ResourceManagerStandIn(in_cloud_shell, subscription_tenant_id="another-tenant") as other:
        compute = client(CloudShellCredential(), base_url=other.url, connection_verify=other.ca_file)
        error = rejection(compute.virtual_machines.list_all)
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
def test_a_missing_or_forged_token_is_rejected(manager: ResourceManagerStandIn, header: str | None, code: str) -> None:
    headers = {} if header is None else {"Authorization": header}
    reply = requests.get(f"{manager.url}/subscriptions", headers=headers, verify=manager.ca_file, timeout=5)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, code)
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")


def test_an_unknown_subscription_is_not_found(
    in_cloud_shell: CloudShellEmulator, manager: ResourceManagerStandIn, client: Callable[..., Any]
) -> None:
    compute = client(CloudShellCredential(), "ffffffff-0000-4000-8000-000000000000")
    assert "(SubscriptionNotFound)" in rejection(compute.virtual_machines.list_all).message


CHALLENGE = '{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}'


def test_a_claims_challenge_ends_in_a_clear_error(
    in_cloud_shell: CloudShellEmulator, manager: ResourceManagerStandIn, client: Callable[..., Any]
) -> None:
    manager.challenge_claims(CHALLENGE)
    with pytest.raises(CredentialUnavailableError, match=r"az login --claims-challenge eyJ"):
        list(client(CloudShellCredential()).virtual_machines.list_all())
    assert len(manager.requests) == 1


def test_a_claims_challenge_of_the_async_client_does_too(
    in_cloud_shell: CloudShellEmulator, manager: ResourceManagerStandIn
) -> None:
    manager.challenge_claims(CHALLENGE)

    async def main() -> None:
        async with (
            AsyncCloudShellCredential() as credential,
            AsyncComputeManagementClient(
                credential, SUBSCRIPTION_ID, base_url=manager.url, connection_verify=manager.ca_file
            ) as compute,
        ):
            async for _ in compute.virtual_machines.list_all():
                pass

    with pytest.raises(CredentialUnavailableError, match=r"az login --claims-challenge eyJ"):
        run_with_tls(main())
    assert len(manager.requests) == 1


def test_in_a_chain_a_claims_challenge_goes_to_the_next_credential(
    in_cloud_shell: CloudShellEmulator, manager: ResourceManagerStandIn, client: Callable[..., Any]
) -> None:
    class Interactive:
        """Stands in for a credential that can satisfy claims."""

        asked: list[dict[str, Any]] = []

        def get_token(self, *scopes: str, **options: Any) -> Any:
            self.asked.append(options)
            manager.challenge_claims(None)
            return CloudShellCredential().get_token(*scopes)

    manager.challenge_claims(CHALLENGE)
    second = Interactive()
    chain = ChainedTokenCredential(CloudShellCredential(), second)
    assert len(list(client(chain).virtual_machines.list_all())) == len(NAMES)
    assert second.asked == [{"claims": CHALLENGE}]


def test_a_chain_with_az_is_reached_when_cloud_shell_denies(
    in_cloud_shell: CloudShellEmulator, client: Callable[..., Any], fake_az: str
) -> None:
    in_cloud_shell.deny("https://management.azure.com/")
    chain = ChainedTokenCredential(CloudShellCredential(), AzureCliCredential())
    # az's token is not one of the emulator's, so the stand-in rejects it: az was reached.
    with pytest.raises(ClientAuthenticationError, match="InvalidAuthenticationToken"):
        list(client(chain).virtual_machines.list_all())


def test_rest_calls_with_requests(in_cloud_shell: CloudShellEmulator, manager: ResourceManagerStandIn) -> None:
    with requests.Session() as session:
        session.auth = CloudShellAuth()
        session.verify = manager.ca_file
        url = f"{manager.url}/subscriptions/{SUBSCRIPTION_ID}/providers/Microsoft.Compute/virtualMachines"
        for _ in range(2):
            page = session.get(url, params={"api-version": "2024-07-01"}, timeout=5).json()
            assert [machine["name"] for machine in page["value"]] == NAMES[:2]
        assert session.get(url, timeout=5).json()["error"]["code"] == "MissingApiVersionParameter"
    assert len(in_cloud_shell.requests) == 1


def test_rest_calls_refresh_the_token(in_cloud_shell: CloudShellEmulator) -> None:
    auth = CloudShellAuth("https://vault.azure.net/.default")
    in_cloud_shell.lifetime = 1
    request = requests.Request("GET", "https://localhost/", auth=auth)
    first = request.prepare().headers["Authorization"]
    import time

    time.sleep(1.1)
    assert request.prepare().headers["Authorization"] != first
    assert [asked.resource for asked in in_cloud_shell.requests] == ["https://vault.azure.net"] * 2


@pytest.mark.parametrize("url", ["http://management.azure.com/", "HTTP://localhost/"])
def test_rest_calls_send_the_token_over_https_only(in_cloud_shell: CloudShellEmulator, url: str) -> None:
    with pytest.raises(ValueError, match="over HTTPS only"):
        requests.get(url, auth=CloudShellAuth(), timeout=5)
    assert in_cloud_shell.requests == []


def test_rest_calls_raise_our_errors(in_cloud_shell: CloudShellEmulator) -> None:
    in_cloud_shell.script(faults.interaction_required())
    with pytest.raises(CredentialUnavailableError, match="AADSTS50076"):
        requests.get("https://localhost/", auth=CloudShellAuth(credential=CloudShellCredential()), timeout=5)


def test_anywhere_is_emulated_outside_cloud_shell() -> None:
    with anywhere() as azure:
        assert azure.is_emulated
        assert azure.subscription_id
        with ComputeManagementClient(CloudShellCredential(), azure.subscription_id, **azure.client_options) as compute:
            assert len(list(compute.virtual_machines.list_all())) == len(NAMES)
    assert "MSI_ENDPOINT" not in os.environ


@pytest.mark.parametrize(
    ("cloud", "url"),
    [("PROD", "https://management.azure.com"), ("Fairfax", "https://management.usgovcloudapi.net")],
)
def test_anywhere_is_azure_inside_cloud_shell(
    in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch, cloud: str, url: str
) -> None:
    monkeypatch.setenv("ACC_CLOUD", cloud)
    with anywhere() as azure:
        assert not azure.is_emulated
        assert azure.client_options == {"base_url": url, "credential_scopes": [f"{url}/.default"]}
        # The very client that users construct takes them.
        assert ComputeManagementClient(CloudShellCredential(), "s", **azure.client_options)
