"""The Azure CLI's folder of configuration, for an ``az`` that is logged in to the emulator and asks the stand-in.

As ``az login --identity`` would write it on a virtual machine, found with azure-cli 2.91.0. In Cloud Shell's own form
the CLI would look up its authority at login.microsoftonline.com first, and ask port 50342 only.
"""

from __future__ import annotations

import json
from pathlib import Path

_CONFIG = """[cloud]
name = AzureCloud

[core]
collect_telemetry = no
"""


def write_configuration(folder: Path, resource_manager: str, subscription_id: str, name: str, tenant_id: str) -> None:
    """Write the files.

    :param folder: for ``AZURE_CONFIG_DIR``; made if it is not there.
    :param resource_manager: the base URL of the stand-in.
    :param subscription_id: the default subscription.
    :param name: its name.
    :param tenant_id: its tenant.
    """
    folder.mkdir(exist_ok=True)
    (folder / "config").write_text(_CONFIG, encoding="utf-8")
    cloud = f"[AzureCloud]\nendpoint_resource_manager = {resource_manager}\nendpoint_management = {resource_manager}\n"
    (folder / "clouds.config").write_text(cloud, encoding="utf-8")
    subscription = {
        "id": subscription_id,
        "name": name,
        "state": "Enabled",
        "isDefault": True,
        "tenantId": tenant_id,
        "homeTenantId": tenant_id,
        "managedByTenants": [],
        "environmentName": "AzureCloud",
        "user": {"name": "systemAssignedIdentity", "type": "servicePrincipal", "assignedIdentityInfo": "MSI"},
    }
    profile = {"installationId": "00000000-0000-4000-8000-000000000000", "subscriptions": [subscription]}
    (folder / "azureProfile.json").write_text(json.dumps(profile), encoding="utf-8")
