"""Which resources a broker serves, when it does not serve all of them."""

from __future__ import annotations

import os
from collections.abc import Iterable

from .._endpoint.audiences import cloud_named, identifiers_of, plain


class Allowed:
    """The resources that names stand for, each under all of its identifiers.

    :param names: URIs, application ids, or short names such as ``vault``, in the cloud that ``ACC_CLOUD`` names.
    :raises ValueError: for anything else.
    """

    def __init__(self, names: Iterable[str]) -> None:
        cloud = cloud_named(os.environ.get("ACC_CLOUD"))
        self._identifiers: set[str] = set()
        for name in names:
            self._identifiers |= set(map(plain, identifiers_of(name, cloud)))

    def __contains__(self, resource: str) -> bool:
        return plain(resource) in self._identifiers
