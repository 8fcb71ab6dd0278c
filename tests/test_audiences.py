"""The table of known resources."""

from __future__ import annotations

import pytest

from azure_cloudshell_credential._endpoint import audiences
from azure_cloudshell_credential.emulator import DEFAULT_AUDIENCES


def test_no_name_or_identifier_stands_twice() -> None:
    names = [name for audience in audiences.KNOWN for name in (audience.name, *audience.aliases)]
    identifiers = [identifier for audience in audiences.KNOWN for identifier in audience.identifiers]
    assert len(names) == len(set(names))
    assert len(identifiers) == len({audiences.plain(identifier) for identifier in identifiers})


# As printed by the service in 2022-03: Azure/CloudShell#155.
PRINTED = """https://management.core.windows.net/ https://management.azure.com/ https://graph.windows.net/
https://vault.azure.net https://datalake.azure.net/ https://outlook.office365.com/ https://graph.microsoft.com/
https://batch.core.windows.net/ https://analysis.windows.net/powerbi/api https://storage.azure.com/
https://rest.media.azure.net https://api.loganalytics.io https://ossrdbms-aad.database.windows.net
https://www.yammer.com https://digitaltwins.azure.net 0b07f429-9f4b-4714-9392-cc5e8e80c8b0
822c8694-ad95-4735-9c55-256f7db2f9b4 https://dev.azuresynapse.net https://database.windows.net
https://quantum.microsoft.com https://iothubs.azure.net 2ff814a6-3304-4ab8-85cb-cd0e6f879c1d
https://azuredatabricks.net/ ce34e7e5-485f-4d76-964f-b3d2b16d1e4f https://azure-devices-provisioning.net""".split()


def test_the_emulator_supports_what_the_service_printed() -> None:
    assert set(PRINTED) <= set(DEFAULT_AUDIENCES)


@pytest.mark.parametrize("rejected", ["https://cognitiveservices.azure.com", "https://azconfig.io/"])
def test_the_emulator_does_not_support_what_the_service_rejects(rejected: str) -> None:
    assert rejected not in DEFAULT_AUDIENCES


@pytest.mark.parametrize("name", "aad-graph arm batch data-lake media ms-graph oss-rdbms".split())
def test_the_resource_types_of_az_are_names(name: str) -> None:
    assert audiences.resource_for(name)


@pytest.mark.parametrize(
    ("name", "cloud", "resource"),
    [
        ("arm", None, "https://management.azure.com/"),
        ("ARM", "PROD", "https://management.azure.com/"),
        ("arm", "Fairfax", "https://management.core.usgovcloudapi.net/"),
        ("arm", "Mooncake", "https://management.core.chinacloudapi.cn/"),
        ("vault", "Mooncake", "https://vault.azure.cn"),
        ("storage", "Fairfax", "https://storage.azure.com/"),
        ("arm", "dogfood", "https://management.azure.com/"),
        ("nonsense", None, None),
    ],
)
def test_a_name_means_a_resource_in_a_cloud(name: str, cloud: str | None, resource: str | None) -> None:
    assert audiences.resource_for(name, audiences.cloud_named(cloud)) == resource
