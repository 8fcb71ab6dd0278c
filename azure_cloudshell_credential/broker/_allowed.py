"""Which resources a broker serves, when it does not serve all of them."""

from __future__ import annotations

import os
from collections.abc import Iterable

from .._endpoint import audiences


class Allowed:
    """The resources that names stand for, each under all of its identifiers.

    :param names: URIs, application ids, or short names such as ``vault``, in the cloud that ``ACC_CLOUD`` names.
    :raises ValueError: for what is none of these.
    """

    def __init__(self, names: Iterable[str]) -> None:
        cloud = audiences.cloud_named(os.environ.get("ACC_CLOUD"))
        self._identifiers: set[str] = set()
        for name in names:
            resource = audiences.resource_named(name, cloud).removesuffix("/.default")
            known = audiences.lookup(resource)
            self._identifiers |= {_plain(each) for each in (resource, *(known.identifiers if known else ()))}

    def __contains__(self, resource: str) -> bool:
        return _plain(resource) in self._identifiers


def _plain(resource: str) -> str:
    return resource.rstrip("/").casefold()
