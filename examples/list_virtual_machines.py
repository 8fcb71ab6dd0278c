"""List the virtual machines of a subscription as the user who is signed in to Cloud Shell.

In Cloud Shell they are your own; elsewhere, those of an emulated company::

    python examples/list_virtual_machines.py [--subscription ID]
"""

import argparse
import os

from azure.mgmt.compute import ComputeManagementClient

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential.demo import (
    HEADINGS,
    first_enabled_subscription,
    print_table,
    signed_in,
    virtual_machines,
)
from azure_cloudshell_credential.emulator.anywhere import anywhere


def main() -> None:
    parser = argparse.ArgumentParser(description="List virtual machines.")
    parser.add_argument("--subscription", help="default: AZURE_SUBSCRIPTION_ID, or your first enabled one")
    subscription = parser.parse_args().subscription or os.environ.get("AZURE_SUBSCRIPTION_ID")

    with anywhere() as azure, CloudShellCredential() as credential:
        if azure.is_emulated:
            print("Not in Cloud Shell: these machines are made up.\n")
            subscription = azure.subscription_id
        subscription = subscription or first_enabled_subscription(azure, credential)
        with ComputeManagementClient(credential, subscription, **azure.client_options) as client:
            print_table(HEADINGS, virtual_machines(client))
        print(f"\n{signed_in(credential, azure.scope)}")


if __name__ == "__main__":
    main()
