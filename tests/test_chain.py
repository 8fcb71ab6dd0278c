"""``DefaultCloudShellCredential``: in Cloud Shell, on a laptop, in CI and on a cluster."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError

from azure_cloudshell_credential import DefaultCloudShellCredential
from azure_cloudshell_credential.aio import DefaultCloudShellCredential as AsyncDefaultCloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator

from . import misbehaving as peer
from .conftest import ARM
from .misbehaving import Behaviour, MisbehavingServer

# Nothing here may ask Windows, a browser or the developer's own logins.
QUIET = {"exclude_powershell_credential": True, "exclude_developer_cli_credential": True}


def sync_token(scope: str = ARM, **options: Any) -> str:
    with DefaultCloudShellCredential(**{**QUIET, **options}) as credential:
        return credential.get_token(scope).token


def async_token(scope: str = ARM, **options: Any) -> str:
    async def main() -> str:
        async with AsyncDefaultCloudShellCredential(**{**QUIET, **options}) as credential:
            return (await credential.get_token(scope)).token

    return asyncio.run(main())


@pytest.fixture(params=[sync_token, async_token], ids=["sync", "async"])
def token(request: pytest.FixtureRequest) -> Any:
    return request.param


def names(credential: Any) -> list[str]:
    return [type(step).__name__ for step in credential.credentials]


def inner(credential: Any) -> list[str]:
    return names(credential.credentials[-1])


@pytest.mark.parametrize("make", [DefaultCloudShellCredential, AsyncDefaultCloudShellCredential], ids=["sync", "async"])
class TestSteps:
    def test_in_cloud_shell(self, make: Any, in_cloud_shell: CloudShellEmulator) -> None:
        credential = make()
        assert names(credential) == ["EnvironmentCredential", "CloudShellCredential", "DefaultAzureCredential"]
        assert "ManagedIdentityCredential" not in inner(credential)
        assert "AzureCliCredential" in inner(credential)

    def test_elsewhere(self, make: Any) -> None:
        credential = make()
        assert names(credential) == ["EnvironmentCredential", "CloudShellCredential", "DefaultAzureCredential"]
        assert inner(credential).index("ManagedIdentityCredential") < inner(credential).index("AzureCliCredential")
        assert "EnvironmentCredential" not in inner(credential)

    def test_steps_can_be_excluded(self, make: Any, in_cloud_shell: CloudShellEmulator) -> None:
        credential = make(
            exclude_environment_credential=True, exclude_cloud_shell_credential=True, exclude_cli_credential=True
        )
        assert names(credential) == ["DefaultAzureCredential"]
        assert not {"AzureCliCredential", "ManagedIdentityCredential"} & set(inner(credential))

    def test_an_emptied_rest_is_left_out(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
        assert names(make()) == ["EnvironmentCredential"]

    def test_nothing_left_is_a_value_error(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
        with pytest.raises(ValueError, match="at least one credential"):
            make(exclude_environment_credential=True)

    @pytest.mark.parametrize(
        ("chosen", "expected"),
        [
            ("dev", ["CloudShellCredential", "DefaultAzureCredential"]),
            ("prod", ["EnvironmentCredential", "CloudShellCredential", "DefaultAzureCredential"]),
            ("AzureCliCredential", ["DefaultAzureCredential"]),
            ("ManagedIdentityCredential", ["CloudShellCredential"]),
        ],
    )
    def test_the_choice_in_the_environment_is_honoured(
        self,
        make: Any,
        in_cloud_shell: CloudShellEmulator,
        monkeypatch: pytest.MonkeyPatch,
        chosen: str,
        expected: list[str],
    ) -> None:
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", chosen)
        assert names(make()) == expected

    @pytest.mark.parametrize(
        "environ",
        [
            {"CI": "true", "GITHUB_ACTIONS": "true"},
            {"MSI_ENDPOINT": "http://169.254.169.254/x"},
            {"MSI_ENDPOINT": "nonsense", "ACC_CLOUD": "PROD"},
            {"AZURE_CLIENT_ID": "x"},
            {"IDENTITY_ENDPOINT": "http://localhost:1", "IDENTITY_HEADER": "x"},
        ],
    )
    def test_construction_never_raises_and_never_blocks(
        self, make: Any, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
    ) -> None:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        start = time.monotonic()
        make()
        assert time.monotonic() - start < 2

    def test_keywords_are_passed_on(self, make: Any, in_cloud_shell: CloudShellEmulator) -> None:
        credential = make(timeout=7, process_timeout=3, authority="login.microsoftonline.us")
        assert credential.credentials[1]._patience.timeout == 7
        cli = credential.credentials[-1].credentials[inner(credential).index("AzureCliCredential")]
        assert cli._process_timeout == 3

    def test_an_endpoint_can_be_given(self, make: Any) -> None:
        credential = make(endpoint="http://localhost:4242/oauth2/token")
        assert credential.credentials[1].endpoint == "http://localhost:4242/oauth2/token"

    def test_tenant_id_is_refused_as_azure_identity_does(self, make: Any) -> None:
        with pytest.raises(TypeError, match="tenant_id"):
            make(tenant_id="t")


def test_in_cloud_shell_the_token_is_its_users(token: Any, in_cloud_shell: CloudShellEmulator, fake_az: str) -> None:
    assert token() == in_cloud_shell.issue("https://management.azure.com")[0]


def test_an_unsupported_audience_ends_in_the_token_of_az(
    token: Any, in_cloud_shell: CloudShellEmulator, fake_az: str
) -> None:
    assert token("https://containerregistry.azure.net/.default") == fake_az
    assert len(in_cloud_shell.requests) == 1


def test_on_a_laptop_it_is_the_token_of_az(token: Any, fake_az: str) -> None:
    # Without the managed identity step, which asks an address beyond this machine and waits for it.
    assert token(exclude_managed_identity_credential=True) == fake_az


def test_a_service_principal_comes_first(
    token: Any, in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch, fake_az: str
) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.setenv(name, "11111111-2222-4333-8444-555555555555")
    monkeypatch.setenv("AZURE_TENANT_ID", "11111111-2222-4333-8444-666666666666")
    # Its authority is a closed port on this machine: what fails is the attempt to sign in as it, which ends the chain
    # as in DefaultAzureCredential.
    with pytest.raises(ClientAuthenticationError, match="EnvironmentCredential") as raised:
        token(authority="https://localhost:9", retry_total=0, disable_instance_discovery=True)
    assert "\tCloudShellCredential" not in raised.value.message
    assert in_cloud_shell.requests == []


def test_managed_identity_elsewhere_is_kept(
    token: Any, misbehaving: Callable[[Behaviour], MisbehavingServer], monkeypatch: pytest.MonkeyPatch, fake_az: str
) -> None:
    content = {"access_token": "token-of-app-service", "expires_on": str(int(time.time()) + 3600), "resource": "x"}
    app_service = misbehaving(peer.reply(json.dumps(content).encode()))
    monkeypatch.setenv("IDENTITY_ENDPOINT", app_service.endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", "secret")
    assert token() == "token-of-app-service"


def test_when_nothing_works_each_step_says_why(token: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(ClientAuthenticationError) as raised:
        token(exclude_managed_identity_credential=True)
    for expected in ("EnvironmentCredential: ", "CloudShellCredential: This is not Azure Cloud Shell", "DefaultAzure"):
        assert expected in raised.value.message
