"""List virtual machines with the asynchronous client and credential.

Needs ``pip install azure-cloudshell-credential azure-mgmt-compute aiohttp`` (the client needs aiohttp)::

    python examples/list_virtual_machines_async.py [--subscription ID]

``azure-cloudshell emulate --with-azure --exec`` in front of it lists those of a made-up company instead; that needs
``azure-cloudshell-credential[emulator]``.
"""

import argparse
import asyncio

from azure.mgmt.compute.aio import ComputeManagementClient

from azure_cloudshell_credential import default_subscription_id
from azure_cloudshell_credential.aio import DefaultCloudShellCredential


async def main() -> None:
    parser = argparse.ArgumentParser(description="List virtual machines.")
    parser.add_argument("--subscription", help="default: AZURE_SUBSCRIPTION_ID, else that of az or Cloud Shell")
    arguments = parser.parse_args()

    subscription = arguments.subscription or await asyncio.to_thread(default_subscription_id)
    async with DefaultCloudShellCredential() as credential, ComputeManagementClient(credential, subscription) as client:
        async for machine in client.virtual_machines.list_all():
            print(machine.name, machine.location)


if __name__ == "__main__":
    asyncio.run(main())
