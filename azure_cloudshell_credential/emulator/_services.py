"""Which services Cloud Shell issues tokens for, as far as anybody has said so in public.

One dated table, ``_observed``: what was asked for, in which cloud, from which host, and whether there was a token.
The emulator's allow-list and docs/services.md are made from it; ``docs/generate.py merge`` adds what reports of
``doctor --report`` say. No list has been published since 2024-08, when the endpoint stopped printing its own
(Azure/CloudShell#477).
"""

from __future__ import annotations

from typing import NamedTuple

from ._observed import OBSERVED

PUBLIC_CLOUD = "PROD"


class Observation(NamedTuple):
    """What the endpoint once said to a request for one resource.

    :param resource: as it was asked for. The spelling matters: an application id can be refused where the URI is not.
    :param supported: whether there was a token; False for ``AudienceNotSupported``.
    :param cloud: the value of ``ACC_CLOUD``.
    :param host: what had opened Cloud Shell, such as ``portal``; None if nobody said.
    :param date: the year, or the year and month; None if it is not known.
    :param source: who said so.
    """

    resource: str
    supported: bool
    cloud: str
    host: str | None
    date: str | None
    source: str


def observations() -> list[Observation]:
    """The table."""
    return [Observation(*row) for row in OBSERVED]


def supported_audiences() -> tuple[str, ...]:
    """What the public cloud's endpoint is known to support, whichever host has opened it."""
    seen = (row.resource for row in observations() if row.cloud == PUBLIC_CLOUD and row.supported)
    return tuple(dict.fromkeys(seen))
