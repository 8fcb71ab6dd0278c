"""The asynchronous versions of the package's credentials, for asyncio and trio."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ._credential import CloudShellCredential

if TYPE_CHECKING:
    from ._chain import DefaultCloudShellCredential as DefaultCloudShellCredential
    from ._subscription import default_subscription_id as default_subscription_id

__all__ = ["CloudShellCredential", "DefaultCloudShellCredential", "default_subscription_id"]

# These bring in azure-identity, which the credential alone works without.
_LAZY_EXPORTS = {
    "DefaultCloudShellCredential": "._chain",
    "default_subscription_id": "._subscription",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY_EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY_EXPORTS[name], __name__), name)
