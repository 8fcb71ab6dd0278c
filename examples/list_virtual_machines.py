"""List the virtual machines of a subscription as the signed-in user: in Cloud Shell, or with az login.

Needs ``pip install azure-cloudshell-credential azure-mgmt-compute``::

    python examples/list_virtual_machines.py [--subscription ID]

``azure-cloudshell emulate --with-azure --exec`` in front of it lists those of a made-up company instead; that needs
``azure-cloudshell-credential[emulator]``.
"""

import argparse

from azure.mgmt.compute import ComputeManagementClient

from azure_cloudshell_credential import DefaultCloudShellCredential, default_subscription_id


def main() -> None:
    parser = argparse.ArgumentParser(description="List virtual machines.")
    parser.add_argument("--subscription", help="default: AZURE_SUBSCRIPTION_ID, else that of az or Cloud Shell")
    arguments = parser.parse_args()

    with DefaultCloudShellCredential() as credential:
        subscription = arguments.subscription or default_subscription_id(credential)
        with ComputeManagementClient(credential, subscription) as client:
            for machine in client.virtual_machines.list_all():
                size = machine.hardware_profile.vm_size if machine.hardware_profile else None
                # The client turns the sizes it knows into members of an enumeration.
                print(machine.name, machine.location, getattr(size, "value", size))


if __name__ == "__main__":
    main()
