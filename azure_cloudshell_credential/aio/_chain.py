"""The asynchronous ``DefaultCloudShellCredential``."""

from __future__ import annotations

from typing import Any

from .._azure.default_chain import DefaultChain
from ._credential import AsyncCredential


class DefaultCloudShellCredential(AsyncCredential):
    """A ``DefaultAzureCredential`` that works in Cloud Shell, for asyncio and trio.

    Takes the keyword arguments of the synchronous ``DefaultCloudShellCredential`` and does the same. Its steps are
    synchronous credentials, which run in a thread of their own for each token that has to be acquired.

    :keyword bool exclude_cloud_shell_credential: leave out Cloud Shell. Default: whether ``AZURE_TOKEN_CREDENTIALS``
        leaves it out.
    :raises ValueError: if no step is left, or for a value that one of the steps refuses.
    """

    __module__ = "azure_cloudshell_credential.aio"

    _source: DefaultChain

    def __init__(self, *, exclude_cloud_shell_credential: bool | None = None, **kwargs: Any) -> None:
        self._source = DefaultChain({**kwargs, "exclude_cloud_shell_credential": exclude_cloud_shell_credential})

    @property
    def credentials(self) -> tuple[Any, ...]:
        """The credentials of the chain, in order. They are synchronous ones."""
        return self._source.credentials
