"""The async ``DefaultCloudShellCredential``."""

from __future__ import annotations

from typing import Any

from azure.identity.aio import ChainedTokenCredential, DefaultAzureCredential, EnvironmentCredential

from .._chain import steps
from ._credential import CloudShellCredential


class DefaultCloudShellCredential(ChainedTokenCredential):
    """``DefaultAzureCredential`` that works in Cloud Shell, for asyncio.

    The async twin of :class:`azure_cloudshell_credential.DefaultCloudShellCredential`: same steps, same keywords.

    :keyword bool exclude_cloud_shell_credential: leave out Cloud Shell. Default False.
    :raises ValueError: if no step is left, or for a value that one of the steps refuses.
    """

    def __init__(self, *, exclude_cloud_shell_credential: bool = False, **kwargs: Any) -> None:
        super().__init__(
            *steps(
                EnvironmentCredential,
                CloudShellCredential,
                DefaultAzureCredential,
                exclude_cloud_shell=exclude_cloud_shell_credential,
                options=kwargs,
            )
        )
