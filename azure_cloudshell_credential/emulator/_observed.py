"""What the endpoint once said, to whom and when: the rows of ``_services.Observation``.

Written by ``docs/generate.py merge``. A module, and not a file of data, so that programs frozen into one file have it.
"""

from __future__ import annotations

# fmt: off
# ruff: noqa: E501
OBSERVED: tuple[tuple[str, bool, str, str | None, str | None, str], ...] = (
    ("https://management.core.windows.net/", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://management.azure.com/", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://graph.windows.net/", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://vault.azure.net", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://datalake.azure.net/", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://outlook.office365.com/", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://graph.microsoft.com/", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://batch.core.windows.net/", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://analysis.windows.net/powerbi/api", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://storage.azure.com/", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://rest.media.azure.net", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://api.loganalytics.io", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://ossrdbms-aad.database.windows.net", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://www.yammer.com", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://digitaltwins.azure.net", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("0b07f429-9f4b-4714-9392-cc5e8e80c8b0", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("822c8694-ad95-4735-9c55-256f7db2f9b4", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://dev.azuresynapse.net", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://database.windows.net", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://quantum.microsoft.com", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://iothubs.azure.net", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("2ff814a6-3304-4ab8-85cb-cd0e6f879c1d", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://azuredatabricks.net/", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("ce34e7e5-485f-4d76-964f-b3d2b16d1e4f", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("https://azure-devices-provisioning.net", True, "PROD", None, "2022-03", "Azure/CloudShell#155"),
    ("cfa8b339-82a2-471a-a3c9-0fc0be7a4093", True, "PROD", None, "2024-07", "microsoft/powerplatform-build-tools#972"),
    ("00000003-0000-0000-c000-000000000000", True, "PROD", None, "2024-07", "microsoft/powerplatform-build-tools#972"),
    ("https://managedhsm.azure.net", True, "PROD", None, "2024-07", "microsoft/powerplatform-build-tools#972"),
    ("499b84ac-1321-427f-aa17-267ca6975798", True, "PROD", None, "2024-07", "microsoft/powerplatform-build-tools#972"),
    ("https://api.adu.microsoft.com/", True, "PROD", None, "2024-07", "microsoft/powerplatform-build-tools#972"),
    ("https://purview.azure.net/", True, "PROD", None, "2024-07", "microsoft/powerplatform-build-tools#972"),
    ("6dae42f8-4368-4678-94ff-3960e28e3630", True, "PROD", None, "2024-07", "microsoft/powerplatform-build-tools#972"),
    ("https://aks-aad-server.azure.com", True, "PROD", None, None, "Azure/azure-cli#30727"),
    ("https://ai.azure.com", True, "PROD", None, "2025", "Azure/CloudShell#550"),
    ("https://appservice.azure.com", True, "PROD", None, "2026-01", "Azure/CloudShell#577"),
    ("https://pas.windows.net/CheckMyAccess/Linux/.default", True, "PROD", None, None, "a comment in MSAL for Python, for SSH certificates"),
    ("https://servicebus.azure.net", False, "PROD", None, "2022-05", "Azure/azure-powershell#18258"),
    ("https://azconfig.io/", False, "PROD", None, "2024-08", "Azure/CloudShell#477"),
    ("https://containerregistry.azure.net", False, "PROD", None, None, "Azure/CloudShell#484"),
    ("https://cognitiveservices.azure.com", False, "PROD", None, None, "Azure/CloudShell#351"),
    ("https://search.azure.com", False, "PROD", None, None, "Azure-Samples/azure-search-openai-demo#1711"),
    ("https://api.fabric.microsoft.com", False, "PROD", None, None, "Azure/CloudShell#527"),
    ("https://service.powerapps.com", False, "PROD", None, None, "Azure/azure-cli#18946"),
    ("https://admin.microsoft.com", False, "PROD", None, None, "Azure/azure-cli#20715"),
    ("https://prometheus.monitor.azure.com", False, "PROD", None, "2026", "claestom/azure-monitor-lab"),
    ("797f4846-ba00-4fd7-ba43-dac1f8f63013", False, "PROD", None, None, "AzureAD/microsoft-authentication-library-for-python#785"),
    ("e406a681-f3d4-42a8-90b6-c2b029497af1", False, "PROD", None, None, "AzureAD/microsoft-authentication-library-for-python#785"),
)
