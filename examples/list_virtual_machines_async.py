"""List virtual machines with the async client and the async credential.

In Cloud Shell they are your own; elsewhere, those of an emulated company::

    python examples/list_virtual_machines_async.py [--subscription ID]
"""

import argparse
import asyncio
import os

from azure.mgmt.compute.aio import ComputeManagementClient

from azure_cloudshell_credential.aio import CloudShellCredential
from azure_cloudshell_credential.emulator.anywhere import anywhere


async def main() -> None:
    parser = argparse.ArgumentParser(description="List virtual machines.")
    parser.add_argument("--subscription", help="default: AZURE_SUBSCRIPTION_ID")
    subscription = parser.parse_args().subscription or os.environ.get("AZURE_SUBSCRIPTION_ID")

    with anywhere() as azure:
        subscription = azure.subscription_id or subscription
        if not subscription:
            parser.error("name a subscription with --subscription or AZURE_SUBSCRIPTION_ID")
        async with (
            CloudShellCredential() as credential,
            ComputeManagementClient(credential, subscription, **azure.client_options) as client,
        ):
            async for machine in client.virtual_machines.list_all():
                print(machine.name, machine.location)


if __name__ == "__main__":
    asyncio.run(main())
