"""What a type checker must accept: ``make lint`` runs mypy and pyright over it, and nothing imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azure.identity import ChainedTokenCredential
from azure.identity.aio import ChainedTokenCredential as AsyncChainedTokenCredential
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.compute.aio import ComputeManagementClient as AsyncComputeManagementClient
from requests.auth import AuthBase

import azure_cloudshell_credential as package
from azure_cloudshell_credential import aio
from azure_cloudshell_credential.broker import CloudShellBroker

if TYPE_CHECKING:
    from azure.core.credentials import SupportsTokenInfo, TokenCredential
    from azure.core.credentials_async import AsyncSupportsTokenInfo, AsyncTokenCredential
    from azure.identity import CredentialUnavailableError

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"

token_credential: TokenCredential = package.CloudShellCredential()
token_credential = package.DefaultCloudShellCredential()
with_info: SupportsTokenInfo = package.CloudShellCredential()
with_info = package.DefaultCloudShellCredential()

async_token_credential: AsyncTokenCredential = aio.CloudShellCredential()
async_token_credential = aio.DefaultCloudShellCredential()
async_with_info: AsyncSupportsTokenInfo = aio.CloudShellCredential()
async_with_info = aio.DefaultCloudShellCredential()

unavailable: CredentialUnavailableError = package.AudienceNotSupportedError("", resource="", supported_audiences=())
auth: AuthBase = package.CloudShellAuth("https://management.azure.com/.default")

chain = ChainedTokenCredential(package.CloudShellCredential(), package.DefaultCloudShellCredential())
async_chain = AsyncChainedTokenCredential(aio.CloudShellCredential(), aio.DefaultCloudShellCredential())
client = ComputeManagementClient(package.CloudShellCredential(), SUBSCRIPTION)
async_client = AsyncComputeManagementClient(aio.CloudShellCredential(), SUBSCRIPTION)
broker = CloudShellBroker(package.CloudShellCredential())
subscription_id: str = package.default_subscription_id(package.CloudShellCredential())


async def in_a_with_statement() -> None:
    """Entering gives the same class."""
    with package.CloudShellCredential() as credential:
        same: package.CloudShellCredential = credential
    async with aio.CloudShellCredential() as async_credential:
        async_same: aio.CloudShellCredential = async_credential
    print(same, async_same)
