"""Start or stop the virtual machines that carry a tag: an automation script.

Needs ``pip install azure-cloudshell-credential azure-mgmt-compute``. Without ``--yes`` it only says what it would do::

    python examples/start_stop_by_tag.py stop --tag env=dev [--yes] [--subscription ID]

``azure-cloudshell emulate --with-azure --exec`` in front of it does it to those of a made-up company instead; that
needs ``azure-cloudshell-credential[emulator]``.
"""

import argparse

from azure.mgmt.compute import ComputeManagementClient

from azure_cloudshell_credential import DefaultCloudShellCredential, default_subscription_id


def main() -> None:
    parser = argparse.ArgumentParser(description="Start or stop the virtual machines that carry a tag.")
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("--tag", required=True, metavar="NAME=VALUE")
    parser.add_argument("--yes", action="store_true", help="do it")
    parser.add_argument("--subscription", help="default: AZURE_SUBSCRIPTION_ID, else that of az or Cloud Shell")
    arguments = parser.parse_args()
    name, equals, value = arguments.tag.partition("=")
    if not name or not equals:
        parser.error(f"--tag is NAME=VALUE, not {arguments.tag!r}")

    with DefaultCloudShellCredential() as credential:
        subscription = arguments.subscription or default_subscription_id(credential)
        with ComputeManagementClient(credential, subscription) as client:
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
