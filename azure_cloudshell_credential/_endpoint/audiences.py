"""The resources a Cloud Shell user asks tokens for: their URIs, application ids and short names.

One table, ``audiences.json``, serves the check of replies, the command line and ``doctor``. It knows names only;
the emulator's ``services.json`` says which of them the endpoint is known to issue tokens for.

Sources: the resources named there; application ids from Microsoft's published first-party application lists; the clouds
from azure-cli's ``cloud.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

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

    def __init__(self, name: str, identifiers: list[str], aliases: Sequence[str] = (), workaround: str = "") -> None:
        self.name = name
        self.resource = identifiers[0]
        self.identifiers = tuple(identifiers)
        self.aliases = tuple(aliases)
        self.workaround = workaround


class Cloud:
    """One of the clouds that ``ACC_CLOUD`` names.

    :param resource_manager: the base URL of Azure Resource Manager.
    :param resources: for each short name whose resource differs from the public cloud's, that resource.
    """

    def __init__(self, resource_manager: str, resources: Mapping[str, str]) -> None:
        self.resource_manager = resource_manager
        self.resources = resources


# By the loader, which every module has and which reads from a zip file too. importlib.resources and pkgutil would take
# longer to import than all of this package's part of the command "token".
_TABLE = json.loads(__loader__.get_data(__file__.rpartition(".")[0] + ".json"))  # type: ignore[name-defined]

KNOWN = tuple(Audience(**row) for row in _TABLE["audiences"])
"""Every resource with a name."""

_CLOUDS = {name: Cloud(**row) for name, row in _TABLE["clouds"].items()}
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


def are_different(requested: str, received: str) -> bool:
    """Whether two identifiers positively belong to two different resources; False when either is unknown."""
    first, second = lookup(requested), lookup(received)
    return first is not None and second is not None and first is not second
