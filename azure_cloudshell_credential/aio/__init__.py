"""The async twins of the package's credentials, for asyncio."""

from __future__ import annotations

from ._credential import CloudShellCredential

__all__ = ["CloudShellCredential"]
