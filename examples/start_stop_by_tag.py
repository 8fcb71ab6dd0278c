"""Start or stop the virtual machines that carry a tag: an automation script.

In Cloud Shell they are your own; elsewhere, those of an emulated company. Without ``--yes`` it only says what it would
do::

    python examples/start_stop_by_tag.py stop --tag env=dev [--yes] [--subscription ID]
"""

import argparse
import os

from azure.mgmt.compute import ComputeManagementClient

from azure_cloudshell_credential import DefaultCloudShellCredential
from azure_cloudshell_credential.emulator.anywhere import anywhere


def main() -> None:
    parser = argparse.ArgumentParser(description="Start or stop the virtual machines that carry a tag.")
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("--tag", required=True, metavar="NAME=VALUE")
    parser.add_argument("--yes", action="store_true", help="do it")
    parser.add_argument("--subscription", help="default: AZURE_SUBSCRIPTION_ID")
    arguments = parser.parse_args()
    name, _, value = arguments.tag.partition("=")

    with anywhere() as azure:
        subscription = azure.subscription_id or arguments.subscription or os.environ.get("AZURE_SUBSCRIPTION_ID")
        if not subscription:
            parser.error("name a subscription with --subscription or AZURE_SUBSCRIPTION_ID")
        with (
            DefaultCloudShellCredential() as credential,
            ComputeManagementClient(credential, subscription, **azure.client_options) as client,
        ):
            machines = client.virtual_machines
            begin = machines.begin_start if arguments.action == "start" else machines.begin_deallocate
            for machine in machines.list_all():
                if not machine.id or not machine.name or (machine.tags or {}).get(name) != value:
                    continue
                group = machine.id.split("/")[4]
                if arguments.yes:
                    begin(group, machine.name).result()
                print(f"{arguments.action} {group}/{machine.name}: {'done' if arguments.yes else 'would be done'}")


if __name__ == "__main__":
    main()
