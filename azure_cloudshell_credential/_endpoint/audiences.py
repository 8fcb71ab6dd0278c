"""The resources a Cloud Shell user asks tokens for: their URIs, application ids and short names, and their hosts.

The tables serve the check of replies, the command line, ``doctor``, and whoever has a service's URL and needs its
scope. They know names only; the emulator's ``_services`` says which of them the endpoint is known to issue tokens for.

Sources: the resources named there; application ids from Microsoft's published first-party application lists; the clouds
from azure-cli's ``cloud.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .text import quoted

GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
"""An application ID, a tenant or a user; part of a text, so with ``fullmatch`` or ``sub``."""


class Audience:
    """One resource under all the names it goes by.

    :param name: the short name used on the command line.
    :param identifiers: URIs and application ids; the first is the one to ask for. The rest are aliases: a token
        for one is a token for all.
    :param workaround: how a client can use a supported resource instead, where a way is known, with its source.
    :param aliases: further short names, among them those of ``az account get-access-token --resource-type``.
    """

    def __init__(self, name: str, *identifiers: str, aliases: tuple[str, ...] = (), workaround: str = "") -> None:
        self.name = name
        self.resource = identifiers[0]
        self.identifiers = identifiers
        self.aliases = aliases
        self.workaround = workaround


class Cloud:
    """One of the clouds that ``ACC_CLOUD`` names.

    :param resource_manager: the base URL of Azure Resource Manager.
    :param resources: for each short name whose resource differs from the public cloud's, that resource.
    """

    def __init__(self, resource_manager: str, resources: Mapping[str, str]) -> None:
        self.resource_manager = resource_manager
        self.resources = resources


KNOWN = (
    Audience(
        "arm",
        "https://management.azure.com/",
        "https://management.core.windows.net/",
        "797f4846-ba00-4fd7-ba43-dac1f8f63013",
        "https://management.usgovcloudapi.net/",
        "https://management.core.usgovcloudapi.net/",
        "https://management.chinacloudapi.cn/",
        "https://management.core.chinacloudapi.cn/",
    ),
    Audience("aad-graph", "https://graph.windows.net/", "00000002-0000-0000-c000-000000000000", aliases=("aadgraph",)),
    Audience("vault", "https://vault.azure.net", "cfa8b339-82a2-471a-a3c9-0fc0be7a4093", aliases=("keyvault",)),
    Audience("data-lake", "https://datalake.azure.net/", "e9f49c6b-5ce5-44c8-925d-015017e9f7ad"),
    Audience("outlook", "https://outlook.office365.com/", "https://outlook.office.com/"),
    Audience(
        "graph",
        "https://graph.microsoft.com/",
        "00000003-0000-0000-c000-000000000000",
        aliases=("ms-graph", "msgraph"),
    ),
    Audience("batch", "https://batch.core.windows.net/", "ddbf3205-c6bd-46ae-8127-60eb93363864"),
    Audience("powerbi", "https://analysis.windows.net/powerbi/api", "00000009-0000-0000-c000-000000000000"),
    Audience("storage", "https://storage.azure.com/", "e406a681-f3d4-42a8-90b6-c2b029497af1"),
    Audience("media", "https://rest.media.azure.net"),
    Audience("loganalytics", "https://api.loganalytics.io", "ca7f3f0b-7d91-482c-8e09-c5d840d0eac5"),
    Audience(
        "ossrdbms",
        "https://ossrdbms-aad.database.windows.net",
        "123cd850-d9df-40bd-94d5-c9f07b7fa203",
        aliases=("oss-rdbms", "postgres", "mysql"),
    ),
    Audience("yammer", "https://www.yammer.com"),
    Audience("digitaltwins", "https://digitaltwins.azure.net", "0b07f429-9f4b-4714-9392-cc5e8e80c8b0"),
    Audience("synapse", "https://dev.azuresynapse.net"),
    Audience("sql", "https://database.windows.net", "022907d3-0f1b-48f7-badc-1ba6abab6d66"),
    Audience("quantum", "https://quantum.microsoft.com"),
    Audience("iothub", "https://iothubs.azure.net"),
    Audience("databricks", "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d", "https://azuredatabricks.net/"),
    Audience("iot-dps", "https://azure-devices-provisioning.net"),
    Audience("managedhsm", "https://managedhsm.azure.net"),
    Audience("devops", "499b84ac-1321-427f-aa17-267ca6975798"),
    Audience("adu", "https://api.adu.microsoft.com/"),
    Audience("purview", "https://purview.azure.net/"),
    Audience("aks", "6dae42f8-4368-4678-94ff-3960e28e3630", "https://aks-aad-server.azure.com"),
    Audience("ai", "https://ai.azure.com"),
    Audience("appservice", "https://appservice.azure.com"),
    Audience(
        "cognitiveservices",
        "https://cognitiveservices.azure.com",
        workaround="OpenAI's v1 base URL is reported to take tokens for https://ai.azure.com/.default (not verified "
        "against the service)",
    ),
    Audience("search", "https://search.azure.com"),
    Audience("servicebus", "https://servicebus.azure.net"),
    Audience("eventhubs", "https://eventhubs.azure.net"),
    Audience("eventgrid", "https://eventgrid.azure.net"),
    Audience("monitor", "https://monitor.azure.com"),
    Audience("webpubsub", "https://webpubsub.azure.com"),
    Audience("communication", "https://communication.azure.com"),
    Audience("kusto", "https://kusto.kusto.windows.net"),
    Audience("cosmos", "https://cosmos.azure.com"),
    Audience("appconfig", "https://azconfig.io/"),
    Audience(
        "acr",
        "https://containerregistry.azure.net",
        workaround='ContainerRegistryClient(..., audience="https://management.azure.com") asks for Resource '
        "Manager's (azure-containerregistry; a registry can forbid it by the policy authentication-as-arm)",
    ),
    Audience(
        "fabric",
        "https://api.fabric.microsoft.com",
        workaround="Fabric's REST API is reported to take tokens for "
        "https://analysis.windows.net/powerbi/api/.default too (not verified against the service)",
    ),
)
"""Every resource with a name."""

_CLOUDS = {
    "prod": Cloud("https://management.azure.com", {}),
    "fairfax": Cloud(
        "https://management.usgovcloudapi.net",
        {
            "arm": "https://management.core.usgovcloudapi.net/",
            "vault": "https://vault.usgovcloudapi.net",
            "graph": "https://graph.microsoft.us/",
            "sql": "https://database.usgovcloudapi.net/",
            "ossrdbms": "https://ossrdbms-aad.database.usgovcloudapi.net",
            "batch": "https://batch.core.usgovcloudapi.net/",
            "loganalytics": "https://api.loganalytics.us",
        },
    ),
    "mooncake": Cloud(
        "https://management.chinacloudapi.cn",
        {
            "arm": "https://management.core.chinacloudapi.cn/",
            "vault": "https://vault.azure.cn",
            "graph": "https://microsoftgraph.chinacloudapi.cn/",
            "sql": "https://database.chinacloudapi.cn/",
            "ossrdbms": "https://ossrdbms-aad.database.chinacloudapi.cn",
            "batch": "https://batch.chinacloudapi.cn/",
            "loganalytics": "https://api.loganalytics.azure.cn",
        },
    ),
}
PUBLIC_CLOUD = _CLOUDS["prod"]

_SERVED_AT = {
    # Public cloud.
    "vault.azure.net": "https://vault.azure.net",
    "managedhsm.azure.net": "https://managedhsm.azure.net",
    "blob.core.windows.net": "https://storage.azure.com/",
    "dfs.core.windows.net": "https://storage.azure.com/",
    "file.core.windows.net": "https://storage.azure.com/",
    "queue.core.windows.net": "https://storage.azure.com/",
    "table.core.windows.net": "https://storage.azure.com/",
    "onelake.dfs.fabric.microsoft.com": "https://storage.azure.com/",
    "database.windows.net": "https://database.windows.net",
    "postgres.database.azure.com": "https://ossrdbms-aad.database.windows.net",
    "mysql.database.azure.com": "https://ossrdbms-aad.database.windows.net",
    "dev.azuresynapse.net": "https://dev.azuresynapse.net",
    "azuredatabricks.net": "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d",
    "kusto.windows.net": "https://kusto.kusto.windows.net",
    "documents.azure.com": "https://cosmos.azure.com",
    "azuredatalakestore.net": "https://datalake.azure.net/",
    "purview.azure.com": "https://purview.azure.net/",
    "search.windows.net": "https://search.azure.com",
    "cognitiveservices.azure.com": "https://cognitiveservices.azure.com",
    "openai.azure.com": "https://cognitiveservices.azure.com",
    "services.ai.azure.com": "https://ai.azure.com",
    "quantum.azure.com": "https://quantum.microsoft.com",
    "servicebus.windows.net": "https://servicebus.azure.net",
    "eventgrid.azure.net": "https://eventgrid.azure.net",
    "webpubsub.azure.com": "https://webpubsub.azure.com",
    "communication.azure.com": "https://communication.azure.com",
    "azconfig.io": "https://azconfig.io/",
    "azurecr.io": "https://containerregistry.azure.net",
    "azmk8s.io": "6dae42f8-4368-4678-94ff-3960e28e3630",
    "batch.azure.com": "https://batch.core.windows.net/",
    "api.loganalytics.azure.com": "https://api.loganalytics.io",
    "ingest.monitor.azure.com": "https://monitor.azure.com",
    "azure-devices.net": "https://iothubs.azure.net",
    "azure-devices-provisioning.net": "https://azure-devices-provisioning.net",
    "digitaltwins.azure.net": "https://digitaltwins.azure.net",
    "api.adu.microsoft.com": "https://api.adu.microsoft.com/",
    "api.powerbi.com": "https://analysis.windows.net/powerbi/api",
    "dev.azure.com": "499b84ac-1321-427f-aa17-267ca6975798",
    "visualstudio.com": "499b84ac-1321-427f-aa17-267ca6975798",
    # US Government.
    "vault.usgovcloudapi.net": "https://vault.usgovcloudapi.net",
    "managedhsm.usgovcloudapi.net": "https://managedhsm.usgovcloudapi.net",
    "blob.core.usgovcloudapi.net": "https://storage.azure.com/",
    "dfs.core.usgovcloudapi.net": "https://storage.azure.com/",
    "file.core.usgovcloudapi.net": "https://storage.azure.com/",
    "queue.core.usgovcloudapi.net": "https://storage.azure.com/",
    "table.core.usgovcloudapi.net": "https://storage.azure.com/",
    "database.usgovcloudapi.net": "https://database.usgovcloudapi.net/",
    "postgres.database.usgovcloudapi.net": "https://ossrdbms-aad.database.usgovcloudapi.net",
    "mysql.database.usgovcloudapi.net": "https://ossrdbms-aad.database.usgovcloudapi.net",
    "dev.azuresynapse.usgovcloudapi.net": "https://dev.azuresynapse.usgovcloudapi.net",
    "search.windows.us": "https://search.azure.us",
    "search.azure.us": "https://search.azure.us",
    "cognitiveservices.azure.us": "https://cognitiveservices.azure.us",
    "openai.azure.us": "https://cognitiveservices.azure.us",
    "servicebus.usgovcloudapi.net": "https://servicebus.azure.net",
    "azconfig.azure.us": "https://appconfig.azure.us/",
    "batch.usgovcloudapi.net": "https://batch.core.usgovcloudapi.net/",
    "ingest.monitor.azure.us": "https://monitor.azure.us",
    # China.
    "vault.azure.cn": "https://vault.azure.cn",
    "managedhsm.azure.cn": "https://managedhsm.azure.cn",
    "blob.core.chinacloudapi.cn": "https://storage.azure.com/",
    "dfs.core.chinacloudapi.cn": "https://storage.azure.com/",
    "file.core.chinacloudapi.cn": "https://storage.azure.com/",
    "queue.core.chinacloudapi.cn": "https://storage.azure.com/",
    "table.core.chinacloudapi.cn": "https://storage.azure.com/",
    "database.chinacloudapi.cn": "https://database.chinacloudapi.cn/",
    "postgres.database.chinacloudapi.cn": "https://ossrdbms-aad.database.chinacloudapi.cn",
    "mysql.database.chinacloudapi.cn": "https://ossrdbms-aad.database.chinacloudapi.cn",
    "dev.azuresynapse.azure.cn": "https://dev.azuresynapse.azure.cn",
    "search.azure.cn": "https://search.azure.cn",
    "cognitiveservices.azure.cn": "https://cognitiveservices.azure.cn",
    "servicebus.chinacloudapi.cn": "https://servicebus.azure.net",
    "azconfig.azure.cn": "https://appconfig.azure.cn/",
    "batch.chinacloudapi.cn": "https://batch.chinacloudapi.cn/",
    "ingest.monitor.azure.cn": "https://monitor.azure.cn",
}
"""Where services answer, and the resource that each takes tokens for: at these hosts and at all below them.

Sources: the suffixes in azure-cli's ``cloud.py``; the public zones in Microsoft's "Azure Private Endpoint DNS
configuration"; the environments of hashicorp/go-azure-sdk; the resources that the services' clients in the Azure SDKs
ask for (``LogsIngestionAudience``, ``SearchAudience``, ``AzureOpenAIAudience``, ``_audience.py`` of
azure-appconfiguration, which name each cloud's; azure-servicebus asks for one in all clouds).
"""

_REGISTERED_BY_HOST = frozenset(
    {
        "https://servicebus.azure.net",
        "https://cosmos.azure.com",
        "https://kusto.kusto.windows.net",
        "https://azconfig.io/",
        "https://appconfig.azure.us/",
        "https://appconfig.azure.cn/",
    }
)
"""Resources whose hosts are resources too: azure-cosmos, azure-kusto-data, Kafka's clients of Event Hubs and older
azure-appconfiguration ask for the host (Microsoft's "Authorize access to Event Hubs"; the clients themselves)."""

# Compiled when it is needed: that would cost the token command as much as reading the tables.
_URL = r"https?://([a-z0-9.-]+)(?::[0-9]*)?(?:[/?#].*)?"
# In small letters: "User.Read" is a permission.
_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+(/.*)?")


def cloud_named(name: str | None) -> Cloud:
    """The cloud that a value of ``ACC_CLOUD`` means; the public one when it is unset or unknown."""
    return _CLOUDS.get((name or "").casefold(), PUBLIC_CLOUD)


def is_guid(text: str) -> bool:
    """Whether a text is an application ID or another GUID."""
    return GUID.fullmatch(text) is not None


def plain(identifier: str) -> str:
    """An identifier as it is compared: in any case, with or without a slash at its end."""
    return identifier.rstrip("/").casefold()


_BY_IDENTIFIER = {plain(identifier): audience for audience in KNOWN for identifier in audience.identifiers}
_BY_NAME = {name: audience for audience in KNOWN for name in (audience.name, *audience.aliases)}


def lookup(identifier: str) -> Audience | None:
    """The entry that a URI or application id belongs to, in any case, with or without a trailing slash."""
    return _BY_IDENTIFIER.get(plain(identifier))


def canonical(identifier: str) -> str:
    """An identifier by which two of one resource are the same."""
    audience = lookup(identifier)
    return plain(identifier if audience is None else audience.resource)


def resource_for(name: str, cloud: Cloud = PUBLIC_CLOUD) -> str | None:
    """The resource that a short name stands for in a cloud, or None for a name not in the table."""
    audience = _BY_NAME.get(name.casefold())
    return None if audience is None else cloud.resources.get(audience.name, audience.resource)


def resource_at(url: str) -> str | None:
    """The resource of the service that answers at a URL, in whichever cloud it is; None if it is not known.

    A URL with a user or a password in it is not known: clients differ in what they take for its host.
    """
    match = re.fullmatch(_URL, url, re.ASCII | re.IGNORECASE | re.DOTALL)
    host = match[1].rstrip(".").casefold() if match else ""
    if (known := _known_at().get(host)) is not None:
        return known
    labels = host.split(".")
    suffixes = (".".join(labels[start:]) for start in range(len(labels) - 1))
    return next((_SERVED_AT[suffix] for suffix in suffixes if suffix in _SERVED_AT), None)


def _known_at() -> dict[str, str]:
    """The known resources by their hosts."""
    known = [identifier for audience in KNOWN for identifier in audience.identifiers]
    known += [resource for cloud in _CLOUDS.values() for resource in cloud.resources.values()]
    return {resource.split("/")[2]: resource for resource in reversed(known) if "://" in resource}


def meant_by(resource: str, *, is_registered: bool = True) -> str | None:
    """The resource that somebody means who has asked for a service's URL, such as that of their own key vault.

    A hint for a resource that has been refused, and no more: any URL may be registered as a resource.

    :param is_registered: False where Microsoft Entra ID does not know it (AADSTS500011). Some services' hosts are
        resources, and whether Cloud Shell issues tokens for one says nothing about the scope.
    :return: the resource; None for a known one, and for one that belongs to no known service.
    """
    meant = None if lookup(resource) else resource_at(resource)
    if meant is None or plain(meant) == plain(resource) or (is_registered and meant in _REGISTERED_BY_HOST):
        return None
    return meant


def named_as(text: str, cloud: Cloud = PUBLIC_CLOUD) -> str | None:
    """The resource that a short name stands for in a cloud, or a service's URL without its scheme."""
    return resource_for(text, cloud) or resource_at(f"https://{text}")


def host_mistake(text: str) -> str | None:
    """What to say of a host where a resource belongs; None of anything else."""
    if not _HOST.fullmatch(text):
        return None
    host = text.removesuffix("/.default")
    uri = meant_by(f"https://{host}", is_registered=False) or f"https://{text}"
    return f"{quoted(text, 200)!r} is a host. The URI is {quoted(uri, 200)}"


def resource_named(text: str, cloud: Cloud = PUBLIC_CLOUD) -> str:
    """The resource that somebody means by a short name, a URI or an application id; the last two pass through.

    :raises ValueError: for anything else, with the name that was probably meant.
    """
    if (named := resource_for(text, cloud)) is not None:
        return named
    if "://" in text or text.startswith("urn:") or is_guid(text.partition("/")[0]):
        return text
    if (mistake := host_mistake(text)) is not None:
        raise ValueError(mistake)
    hint = did_you_mean(text, _BY_NAME) or f" The short names are: {', '.join(audience.name for audience in KNOWN)}."
    raise ValueError(f"{quoted(text, 200)!r} is not a known resource.{hint} Or give a URI, or an application ID.")


def identifiers_of(text: str, cloud: Cloud = PUBLIC_CLOUD) -> tuple[str, ...]:
    """All identifiers of the resource that somebody means by a short name, a scope, a URI or an application id.

    :raises ValueError: for anything else, with the name that was probably meant.
    """
    resource = resource_named(text, cloud).removesuffix("/.default")
    audience = lookup(resource)
    return (resource,) if audience is None else tuple(dict.fromkeys((resource, *audience.identifiers)))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence with the known word that is closest, after a space; empty if none is close."""
    from difflib import get_close_matches

    close = get_close_matches(word.casefold(), known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def is_same(first: str, second: str) -> bool:
    """Whether two identifiers are one resource's: equal but for case and a slash at the end, or aliases."""
    return canonical(first) == canonical(second)


def are_different(requested: str, received: str) -> bool:
    """Whether two identifiers positively belong to two different resources; False when either is unknown."""
    first, second = lookup(requested), lookup(received)
    return first is not None and second is not None and first is not second
