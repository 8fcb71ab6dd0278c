"""The asynchronous versions of the package's credentials, for asyncio and trio."""

from __future__ import annotations

from ._credential import CloudShellCredential, DefaultCloudShellCredential
from ._subscription import default_subscription_id

__all__ = ["CloudShellCredential", "DefaultCloudShellCredential", "default_subscription_id"]


def __dir__() -> list[str]:
    return sorted(__all__)
