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


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://myvault.vault.azure.net", "https://vault.azure.net"),
        ("https://MyVault.Vault.azure.net/secrets/x", "https://vault.azure.net"),
        ("https://v.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net"),
        ("https://v.vault.azure.cn/", "https://vault.azure.cn"),
        ("https://a.blob.core.windows.net", "https://storage.azure.com/"),
        ("https://a.dfs.core.chinacloudapi.cn", "https://storage.azure.com/"),
        ("https://s.database.windows.net:1433", "https://database.windows.net"),
        ("https://s.database.usgovcloudapi.net", "https://database.usgovcloudapi.net/"),
        ("https://p.postgres.database.azure.com", "https://ossrdbms-aad.database.windows.net"),
        ("https://p.mysql.database.chinacloudapi.cn", "https://ossrdbms-aad.database.chinacloudapi.cn"),
        ("https://s.search.windows.net", "https://search.azure.com"),
        ("https://s.search.windows.us", "https://search.azure.us"),
        ("https://a.openai.azure.com/openai", "https://cognitiveservices.azure.com"),
        ("https://a.openai.azure.us", "https://cognitiveservices.azure.us"),
        ("https://api.loganalytics.io/v1/workspaces", "https://api.loganalytics.io"),
        ("https://dev.azure.com/contoso", "499b84ac-1321-427f-aa17-267ca6975798"),
        ("https://management.azure.com/subscriptions", "https://management.azure.com/"),
        ("https://management.usgovcloudapi.net/subscriptions", "https://management.usgovcloudapi.net/"),
        ("https://graph.microsoft.com/v1.0", "https://graph.microsoft.com/"),
        ("https://microsoftgraph.chinacloudapi.cn/v1.0", "https://microsoftgraph.chinacloudapi.cn/"),
        ("https://analysis.windows.net/powerbi", "https://analysis.windows.net/powerbi/api"),
    ],
)
def test_a_services_url_means_its_resource(written: str, meant: str) -> None:
    assert audiences.meant_by(written) == meant


@pytest.mark.parametrize(
    "right",
    [
        *(identifier for audience in audiences.KNOWN for identifier in audience.identifiers),
        *(resource for cloud in audiences._CLOUDS.values() for resource in cloud.resources.values()),
        *audiences._SERVED_AT.values(),
    ],
)
def test_a_right_resource_means_nothing_else(right: str) -> None:
    for spelling in (right, right.rstrip("/"), right.upper()):
        assert audiences.meant_by(spelling) is None


@pytest.mark.parametrize(
    "other",
    [
        "https://example.net/.default",
        "https://vault.azure.net.example.net",
        "https://evilvault.azure.net",
        "https://myvault.vault.azure.net@example.net/",
        "https://example.net/?x=https://v.vault.azure.net",
        "https://example.net\\.vault.azure.net",
        "https://azure.net",
        "ftp://v.vault.azure.net",
        "api://v.vault.azure.net",
        "https://",
        "vault",
        "",
    ],
)
def test_another_host_means_nothing(other: str) -> None:
    assert audiences.meant_by(other) is None
    assert audiences.resource_at(other) is None


@pytest.mark.parametrize(
    "host", ["n.servicebus.windows.net", "a.documents.azure.com", "c.westeurope.kusto.windows.net", "c.azconfig.io"]
)
def test_a_host_that_is_a_resource_too_is_wrong_only_where_entra_does_not_know_it(host: str) -> None:
    assert audiences.meant_by(f"https://{host}") is None
    assert audiences.meant_by(f"https://{host}", is_registered=False) == audiences.resource_at(f"https://{host}")
