"""List virtual machines with the asynchronous client and credential.

Needs ``pip install azure-cloudshell-credential azure-mgmt-compute aiohttp`` (the client needs aiohttp)::

    python examples/list_virtual_machines_async.py [--subscription ID]

``--emulate`` lists those of a made-up company instead; it needs ``azure-cloudshell-credential[demo]``.
"""

import argparse
import asyncio
from contextlib import AsyncExitStack

from azure.mgmt.compute.aio import ComputeManagementClient

from azure_cloudshell_credential import default_subscription_id
from azure_cloudshell_credential.aio import DefaultCloudShellCredential


async def main() -> None:
    parser = argparse.ArgumentParser(description="List virtual machines.")
    parser.add_argument("--subscription", help="default: AZURE_SUBSCRIPTION_ID, else that of az or Cloud Shell")
    parser.add_argument("--emulate", action="store_true", help="list those of a made-up company")
    arguments = parser.parse_args()

    async with AsyncExitStack() as stack:
        subscription, options = arguments.subscription, {}
        if arguments.emulate:
            from azure_cloudshell_credential.emulator.anywhere import emulated

            azure = stack.enter_context(emulated())
            print("Emulated: these machines are made up.")
            subscription, options = azure.subscription_id, azure.client_options
        subscription = subscription or await asyncio.to_thread(default_subscription_id)
        credential = await stack.enter_async_context(DefaultCloudShellCredential())
        client = await stack.enter_async_context(ComputeManagementClient(credential, subscription, **options))
        async for machine in client.virtual_machines.list_all():
            print(machine.name, machine.location)


if __name__ == "__main__":
    asyncio.run(main())
