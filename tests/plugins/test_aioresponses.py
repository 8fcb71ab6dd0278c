# pytest --asyncio-mode=auto
"""aioresponses, and pytest-asyncio in its automatic mode."""

from aioresponses import aioresponses

from azure_cloudshell_credential.aio import CloudShellCredential


async def test_every_client_is_mocked_and_the_token_is_there(cloud_shell):
    with aioresponses():
        async with CloudShellCredential() as credential:
            assert (await credential.get_token("https://vault.azure.net/.default")).token
