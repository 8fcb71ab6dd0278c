"""Environment variables of this process, changed for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from .._serving.token_protocols import IDENTITY_VARIABLES

SIGN_IN_VARIABLES = (
    *IDENTITY_VARIABLES,
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_PASSWORD",
    "AZURE_TENANT_ID",
    "AZURE_USERNAME",
)
"""Those by which a default chain finds another identity than Cloud Shell's: none is set in Cloud Shell."""


@contextmanager
def changed(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Change ``os.environ``, and restore it afterwards.

    :param changes: the values; None removes a variable.
    """
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
