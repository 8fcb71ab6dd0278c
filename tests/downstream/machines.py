"""Somebody's script: lists the machines of the default subscription. It knows nothing of any emulator."""

from azure.mgmt.compute import ComputeManagementClient

from azure_cloudshell_credential import DefaultCloudShellCredential, default_subscription_id


def names() -> list[str]:
    credential = DefaultCloudShellCredential()
    with ComputeManagementClient(credential, default_subscription_id(credential)) as client:
        return [machine.name for machine in client.virtual_machines.list_all()]
