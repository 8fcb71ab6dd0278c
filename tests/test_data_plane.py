"""Real clients of data-plane services: Blob Storage against Azurite, Key Vault against its challenge."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity import ChainedTokenCredential, CredentialUnavailableError
from azure.keyvault.secrets import SecretClient
from azure.keyvault.secrets.aio import SecretClient as AsyncSecretClient
from azure.storage.blob import BlobServiceClient
from azure.storage.blob.aio import BlobServiceClient as AsyncBlobServiceClient

from azure_cloudshell_credential import CloudShellCredential, DefaultCloudShellCredential
from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .azurite import Azurite
from .conftest import run_with_tls
from .key_vault import KeyVault

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("make", [CloudShellCredential, DefaultCloudShellCredential])
def test_a_blob_is_written_listed_and_read(in_cloud_shell: CloudShellEmulator, azurite: Azurite, make: Any) -> None:
    content = uuid4().bytes
    with (
        make() as credential,
        BlobServiceClient(azurite.account_url, credential=credential, connection_verify=azurite.ca_file) as service,
    ):
        container = service.create_container(f"c{uuid4().hex}")
        container.upload_blob("blob", content)
        assert [blob.name for blob in container.list_blobs()] == ["blob"]
        assert container.download_blob("blob").readall() == content
    assert [asked.resource for asked in in_cloud_shell.requests] == ["https://storage.azure.com"]


def test_a_blob_is_written_listed_and_read_by_the_async_client(
    in_cloud_shell: CloudShellEmulator, azurite: Azurite
) -> None:
    content = uuid4().bytes

    async def main() -> None:
        async with (
            AsyncCloudShellCredential() as credential,
            AsyncBlobServiceClient(
                azurite.account_url, credential=credential, connection_verify=azurite.ca_file
            ) as service,
        ):
            container = await service.create_container(f"c{uuid4().hex}")
            await container.upload_blob("blob", content)
            assert [blob.name async for blob in container.list_blobs()] == ["blob"]
            assert await (await container.download_blob("blob")).readall() == content

    run_with_tls(main())
    assert [asked.resource for asked in in_cloud_shell.requests] == ["https://storage.azure.com"]


def test_the_service_sees_who_is_signed_in(in_cloud_shell: CloudShellEmulator, azurite: Azurite) -> None:
    from datetime import datetime, timedelta, timezone

    now = datetime.now(timezone.utc)
    with BlobServiceClient(
        azurite.account_url, credential=CloudShellCredential(), connection_verify=azurite.ca_file
    ) as service:
        key = service.get_user_delegation_key(now, now + timedelta(hours=1))
    assert (key.signed_oid, key.signed_tid) == (
        in_cloud_shell.identity.object_id,
        in_cloud_shell.identity.tenant_id,
    )


def test_the_service_rejects_a_token_for_another_audience(in_cloud_shell: CloudShellEmulator, azurite: Azurite) -> None:
    with (
        BlobServiceClient(
            azurite.account_url,
            credential=CloudShellCredential(),
            connection_verify=azurite.ca_file,
            audience="https://vault.azure.net",
        ) as service,
        pytest.raises(HttpResponseError) as raised,
    ):
        service.create_container("never")
    assert raised.value.status_code == 403


def secret(vault: KeyVault, credential: Any) -> str | None:
    with SecretClient(
        vault.url, credential, connection_verify=vault.ca_file, verify_challenge_resource=False
    ) as client:
        return client.get_secret("name").value


def test_key_vaults_challenge_is_answered(in_cloud_shell: CloudShellEmulator, tmp_path: Path) -> None:
    with KeyVault(in_cloud_shell, tmp_path) as vault:
        assert secret(vault, CloudShellCredential()) == "s3cr3t"
        assert vault.challenges == 1
    assert [asked.resource for asked in in_cloud_shell.requests] == ["https://vault.azure.net"]


def test_key_vaults_challenge_is_answered_by_the_async_client(
    in_cloud_shell: CloudShellEmulator, tmp_path: Path
) -> None:
    async def main(vault: KeyVault) -> str | None:
        async with (
            AsyncCloudShellCredential() as credential,
            AsyncSecretClient(
                vault.url, credential, connection_verify=vault.ca_file, verify_challenge_resource=False
            ) as client,
        ):
            return (await client.get_secret("name")).value

    with KeyVault(in_cloud_shell, tmp_path) as vault:
        assert run_with_tls(main(vault)) == "s3cr3t"


def test_a_vault_of_another_tenant_goes_to_the_next_credential(
    in_cloud_shell: CloudShellEmulator, tmp_path: Path
) -> None:
    class Second:
        tenants: list[str | None] = []

        def get_token(self, *scopes: str, **options: Any) -> Any:
            self.tenants.append(options.get("tenant_id"))
            return CloudShellCredential().get_token(*scopes)

    with KeyVault(in_cloud_shell, tmp_path, "99999999-0000-4000-8000-000000000000") as vault:
        with pytest.raises(CredentialUnavailableError, match="az login --tenant 99999999"):
            secret(vault, CloudShellCredential())
        assert secret(vault, ChainedTokenCredential(CloudShellCredential(), Second())) == "s3cr3t"
    assert Second.tenants == ["99999999-0000-4000-8000-000000000000"]
