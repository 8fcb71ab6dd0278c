"""anyio, on asyncio and trio."""

import pytest

from azure_cloudshell_credential.aio import CloudShellCredential


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.mark.anyio
async def test_on_both_event_loops(cloud_shell):
    async with CloudShellCredential() as credential:
        assert (await credential.get_token("https://vault.azure.net/.default")).token
