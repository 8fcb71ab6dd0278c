"""``DefaultCloudShellCredential``: in Cloud Shell, on a laptop, in CI and on a cluster."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import azure.identity
import pytest
import trio
from azure.core.credentials import AccessTokenInfo
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ChainedTokenCredential

from azure_cloudshell_credential import CloudShellCredential, DefaultCloudShellCredential
from azure_cloudshell_credential._azure import default_chain
from azure_cloudshell_credential._endpoint import environment
from azure_cloudshell_credential.aio import DefaultCloudShellCredential as AsyncDefaultCloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator

from . import misbehaving as peer
from .conftest import ARM, Everything, in_threads
from .misbehaving import Behaviour, MisbehavingServer

# Nothing here may ask Windows, a browser or the developer's own logins.
QUIET = {"exclude_powershell_credential": True, "exclude_developer_cli_credential": True}


FOLLOWS_THE_CHOICE = pytest.mark.skipif(
    tuple(map(int, azure.identity.__version__.split(".")[:2])) < (1, 25),
    reason="DefaultAzureCredential follows AZURE_TOKEN_CREDENTIALS from azure-identity 1.25 on",
)


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

    @FOLLOWS_THE_CHOICE
    def test_an_emptied_rest_is_left_out(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
        assert names(make()) == ["EnvironmentCredential"]

    @FOLLOWS_THE_CHOICE
    def test_nothing_left_is_a_value_error(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
        with pytest.raises(ValueError, match="at least one credential"):
            make(exclude_environment_credential=True)

    @FOLLOWS_THE_CHOICE
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
        assert credential.credentials[1]._policy.timeout == 7
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
    assert "CloudShellCredential" not in raised.value.message
    assert in_cloud_shell.requests == []


def test_managed_identity_elsewhere_is_kept(
    token: Any, misbehaving: Callable[[Behaviour], MisbehavingServer], monkeypatch: pytest.MonkeyPatch, fake_az: str
) -> None:
    content = {"access_token": "token-of-app-service", "expires_on": str(int(time.time()) + 3600), "resource": "x"}
    app_service = misbehaving(peer.reply(json.dumps(content).encode()))
    monkeypatch.setenv("IDENTITY_ENDPOINT", app_service.endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", "secret")
    assert token() == "token-of-app-service"


def test_in_cloud_shells_image_on_another_host_managed_identity_is_kept(
    token: Any, misbehaving: Callable[[Behaviour], MisbehavingServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"access_token": "token-of-app-service", "expires_on": str(int(time.time()) + 3600), "resource": "x"}
    app_service = misbehaving(peer.reply(json.dumps(content).encode()))
    monkeypatch.setenv("IDENTITY_ENDPOINT", app_service.endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", "secret")
    # The markers are in the image; nothing listens at the documented address.
    monkeypatch.setenv("AZUREPS_HOST_ENVIRONMENT", "cloud-shell/1.0")
    monkeypatch.setenv("AZD_IN_CLOUDSHELL", "1")
    monkeypatch.setattr(environment, "DEFAULT_ENDPOINT", "http://localhost:9/oauth2/token")
    assert token() == "token-of-app-service"


def test_when_nothing_works_it_says_why_once_in_one_paragraph(
    token: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(ClientAuthenticationError) as raised:
        token(exclude_managed_identity_credential=True)
    message = raised.value.message
    assert message.startswith(
        f"No credential has a token for {ARM}. CloudShellCredential: This is not Azure Cloud Shell"
    )
    assert "AzureCliCredential: Azure CLI not found on path." in message
    assert message.isprintable()
    for said in ("CloudShellCredential: ", "EnvironmentCredential: ", "AzureCliCredential: "):
        assert message.count(said) == 1
    assert "aka.ms" not in message
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_azure_identitys_own_chains_still_log_their_failures(log: Everything) -> None:
    with pytest.raises(ClientAuthenticationError):
        ChainedTokenCredential(CloudShellCredential()).get_token(ARM)
    assert [line for line in log.lines if "Attempted credentials" in line]


@pytest.fixture
def counted_az(fake_az: str, tmp_path: Path) -> Callable[[], int]:
    """How often az has been started."""
    program = tmp_path / "bin" / "az"
    count = tmp_path / "starts"
    first, rest = program.read_text().split("\n", 1)
    program.write_text(f"{first}\nopen({str(count)!r}, 'a').write('x')\n{rest}")
    return lambda: len(count.read_text()) if count.exists() else 0


ACR = "https://containerregistry.azure.net/.default"


class TestCache:
    def test_a_token_of_az_is_kept(self, in_cloud_shell: CloudShellEmulator, counted_az: Callable[[], int]) -> None:
        credential = DefaultCloudShellCredential(**QUIET)
        tokens = {credential.get_token(ACR) for _ in range(5)}
        info = credential.get_token_info(ACR)
        assert len(tokens) == 1
        assert info.token == tokens.pop().token
        assert counted_az() == 1
        assert len(in_cloud_shell.requests) == 1

    def test_by_scope_and_tenant(self, in_cloud_shell: CloudShellEmulator, counted_az: Callable[[], int]) -> None:
        credential = DefaultCloudShellCredential(**QUIET)
        credential.get_token(ACR)
        other = "99999999-0000-4000-8000-000000000000"
        for _ in range(2):
            assert credential.get_token(ACR, tenant_id=other).token
            assert credential.get_token_info(ARM, options={"tenant_id": other}).token
        assert counted_az() == 3

    def test_64_threads_start_az_once(self, in_cloud_shell: CloudShellEmulator, counted_az: Callable[[], int]) -> None:
        credential = DefaultCloudShellCredential(**QUIET)
        assert len(set(in_threads(64, lambda _: credential.get_token(ACR)))) == 1
        assert counted_az() == 1

    def test_50_tasks_start_az_once(self, in_cloud_shell: CloudShellEmulator, counted_az: Callable[[], int]) -> None:
        async def main() -> int:
            async with AsyncDefaultCloudShellCredential(**QUIET) as credential:
                return len(set(await asyncio.gather(*(credential.get_token(ACR) for _ in range(50)))))

        assert asyncio.run(main()) == 1
        assert counted_az() == 1

    def test_on_trio(self, in_cloud_shell: CloudShellEmulator, fake_az: str) -> None:
        credential = AsyncDefaultCloudShellCredential(**QUIET)
        assert trio.run(credential.get_token, ACR).token == fake_az
        assert trio.run(credential.get_token_info, ARM).token != fake_az

    def test_claims_are_always_asked_for(
        self, in_cloud_shell: CloudShellEmulator, counted_az: Callable[[], int], mocker: Any
    ) -> None:
        credential = DefaultCloudShellCredential(**QUIET)
        first = credential.get_token(ARM)
        # az itself refuses a challenge; a credential behind Cloud Shell that satisfies it:
        better = AccessTokenInfo("better", int(time.time()) + 3600)
        asked = mocker.patch.object(ChainedTokenCredential, "get_token_info", return_value=better)
        for _ in range(2):
            assert credential.get_token(ARM, claims="{}").token == "better"
        assert asked.call_count == 2
        assert asked.call_args.kwargs["options"] == {"claims": "{}"}
        # It has replaced the one that was not good enough.
        assert credential.get_token(ARM).token == "better" != first.token
        assert asked.call_count == 2

    def test_the_kind_and_the_refresh_time_of_a_token_are_kept(self, mocker: Any) -> None:
        expires = int(time.time()) + 3600
        info = AccessTokenInfo("x", expires, token_type="pop", refresh_on=expires - 1800)
        mocker.patch.object(ChainedTokenCredential, "get_token_info", return_value=info)
        options: Any = {"pop": {"nonce": "n"}}
        kept = DefaultCloudShellCredential(**QUIET).get_token_info(ARM, options=options)
        assert (kept.token_type, kept.refresh_on) == ("pop", expires - 1800)

    def test_a_failure_is_not_kept(self, in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", os.devnull)
        credential = DefaultCloudShellCredential(**QUIET)
        for _ in range(2):
            with pytest.raises(ClientAuthenticationError, match="AudienceNotSupported"):
                credential.get_token(ACR)
        # Cloud Shell's own refusal is: the endpoint is asked once.
        assert len(in_cloud_shell.requests) == 1

    def test_without_a_scope(self) -> None:
        with pytest.raises(ValueError, match="requires a scope"):
            DefaultCloudShellCredential(**QUIET).get_token()


def test_what_a_credential_says_is_read_from_the_lists_of_azure_identity() -> None:
    message = (
        "ChainedTokenCredential failed to retrieve a token from the included credentials.\nAttempted credentials:\n"
        "\tEnvironmentCredential: EnvironmentCredential authentication unavailable. Not configured.\n"
        "Visit https://x y\n"
        "\tCloudShellCredential: No.\n"
        "\tDefaultAzureCredential: DefaultAzureCredential failed to retrieve a token x\nAttempted credentials:\n"
        "\tAzureCliCredential: ERROR: first line\nsecond line eyJhbGciOiJub25lIn0.eyJhIjoxfQ.\n"
        "To mitigate this issue, please refer to x\nTo mitigate this issue, please refer to x."
    )
    failure = default_chain.explain("s", ClientAuthenticationError(message=message))
    assert failure.attempts == (
        ("CloudShellCredential", "No."),
        ("EnvironmentCredential", "Not configured."),
        ("AzureCliCredential", "ERROR: first line second line [redacted]"),
    )
    assert (
        default_chain.explain("s", ClientAuthenticationError(message="odd")).what
        == "No credential has a token for s. Error: odd."
    )
