"""The resources a Cloud Shell user asks tokens for: their URIs, application ids and short names.

One table serves the check of replies, the command line and ``doctor``. It knows names only;
the emulator's ``services.json`` says which of them the endpoint is known to issue tokens for.

Sources: the resources named there; application ids from Microsoft's published first-party application lists; the clouds
from azure-cli's ``cloud.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

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
        aliases=("oss-rdbms",),
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


def resource_for(name: str, cloud: Cloud = PUBLIC_CLOUD) -> str | None:
    """The resource that a short name stands for in a cloud, or None for a name not in the table."""
    audience = _BY_NAME.get(name.casefold())
    return None if audience is None else cloud.resources.get(audience.name, audience.resource)


def resource_named(text: str, cloud: Cloud = PUBLIC_CLOUD) -> str:
    """The resource that somebody means by a short name, a URI or an application id; the last two pass through.

    :raises ValueError: for anything else, with the name that was probably meant.
    """
    if (named := resource_for(text, cloud)) is not None:
        return named
    if "://" in text or text.startswith("urn:") or is_guid(text.partition("/")[0]):
        return text
    hint = did_you_mean(text, _BY_NAME) or f" The short names are: {', '.join(audience.name for audience in KNOWN)}."
    raise ValueError(f"{text!r} is not a known resource.{hint} Or give a URI, or an application ID.")


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
    known = lookup(first)
    return plain(first) == plain(second) or (known is not None and known is lookup(second))


def are_different(requested: str, received: str) -> bool:
    """Whether two identifiers positively belong to two different resources; False when either is unknown."""
    first, second = lookup(requested), lookup(received)
    return first is not None and second is not None and first is not second
