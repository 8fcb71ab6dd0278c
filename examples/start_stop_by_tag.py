"""Start or stop the virtual machines that carry a tag: an automation script.

Needs ``pip install azure-cloudshell-credential azure-mgmt-compute``. Without ``--yes`` it only says what it would do::

    python examples/start_stop_by_tag.py stop --tag env=dev [--yes] [--subscription ID]

``--emulate`` does it to those of a made-up company instead; it needs ``azure-cloudshell-credential[demo]``.
"""

import argparse
from contextlib import ExitStack

from azure.mgmt.compute import ComputeManagementClient

from azure_cloudshell_credential import DefaultCloudShellCredential, default_subscription_id


def main() -> None:
    parser = argparse.ArgumentParser(description="Start or stop the virtual machines that carry a tag.")
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("--tag", required=True, metavar="NAME=VALUE")
    parser.add_argument("--yes", action="store_true", help="do it")
    parser.add_argument("--subscription", help="default: AZURE_SUBSCRIPTION_ID, else that of az or Cloud Shell")
    parser.add_argument("--emulate", action="store_true", help="do it to those of a made-up company")
    arguments = parser.parse_args()
    name, equals, value = arguments.tag.partition("=")
    if not name or not equals:
        parser.error(f"--tag is NAME=VALUE, not {arguments.tag!r}")

    with ExitStack() as stack:
        subscription, options = arguments.subscription, {}
        if arguments.emulate:
            from azure_cloudshell_credential.emulator.anywhere import emulated

            azure = stack.enter_context(emulated())
            print("Emulated: these machines are made up.")
            subscription, options = azure.subscription_id, azure.client_options
        credential = stack.enter_context(DefaultCloudShellCredential())
        subscription = subscription or default_subscription_id(credential)
        machines = stack.enter_context(ComputeManagementClient(credential, subscription, **options)).virtual_machines
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
