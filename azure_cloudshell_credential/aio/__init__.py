"""The asynchronous versions of the package's credentials, for asyncio and trio."""

from __future__ import annotations

from ._credential import CloudShellCredential

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._chain import DefaultCloudShellCredential as DefaultCloudShellCredential

__all__ = ["CloudShellCredential", "DefaultCloudShellCredential"]


def __getattr__(name: str) -> object:
    # The chain brings in azure-identity, which the credential alone works without.
    if name != "DefaultCloudShellCredential":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ._chain import DefaultCloudShellCredential

    return DefaultCloudShellCredential
