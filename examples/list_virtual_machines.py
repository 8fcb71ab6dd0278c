"""List the virtual machines of a subscription as the signed-in user: in Cloud Shell, or with az login.

Needs ``pip install azure-cloudshell-credential azure-mgmt-compute``::

    python examples/list_virtual_machines.py [--subscription ID]

``--emulate`` lists those of a made-up company instead; it needs ``azure-cloudshell-credential[demo]``.
"""

import argparse
from contextlib import ExitStack

from azure.mgmt.compute import ComputeManagementClient

from azure_cloudshell_credential import DefaultCloudShellCredential, default_subscription_id


def main() -> None:
    parser = argparse.ArgumentParser(description="List virtual machines.")
    parser.add_argument("--subscription", help="default: AZURE_SUBSCRIPTION_ID, else that of az or Cloud Shell")
    parser.add_argument("--emulate", action="store_true", help="list those of a made-up company")
    arguments = parser.parse_args()

    with ExitStack() as stack:
        subscription, options = arguments.subscription, {}
        if arguments.emulate:
            from azure_cloudshell_credential.emulator.anywhere import emulated

            azure = stack.enter_context(emulated())
            print("Emulated: these machines are made up.")
            subscription, options = azure.subscription_id, azure.client_options
        credential = stack.enter_context(DefaultCloudShellCredential())
        subscription = subscription or default_subscription_id(credential)
        client = stack.enter_context(ComputeManagementClient(credential, subscription, **options))
        for machine in client.virtual_machines.list_all():
            size = machine.hardware_profile.vm_size if machine.hardware_profile else None
            # The client turns the sizes it knows into members of an enumeration.
            print(machine.name, machine.location, getattr(size, "value", size))


if __name__ == "__main__":
    main()
