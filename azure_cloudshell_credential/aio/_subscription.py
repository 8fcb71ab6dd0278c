"""The asynchronous ``default_subscription_id``."""

from __future__ import annotations

import os
from inspect import iscoroutinefunction

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError

from .._azure.subscription import (
    LISTING_SECONDS,
    first_enabled_subscription_id,
    known_subscription_id,
    overdue,
    resource_manager_scope,
)
from .._tokens.in_flight import InFlight
from ._credential import DefaultCloudShellCredential
from ._waiting import wait


class _Listing(InFlight):
    def _overdue(self) -> AzureError:
        return overdue()


async def default_subscription_id(credential: AsyncTokenCredential | None = None) -> str:
    """The id of the subscription to work in, found as the synchronous ``default_subscription_id`` finds it.

    :param credential: an asynchronous credential. Default: a ``DefaultCloudShellCredential``.
    :paramtype credential: azure.core.credentials_async.AsyncTokenCredential
    :rtype: str
    :raises LookupError: if Resource Manager lists none that is enabled.
    :raises TypeError: for a synchronous credential.
    :raises azure.core.exceptions.AzureError: as the synchronous one.
    """
    if credential is not None and not iscoroutinefunction(getattr(credential, "get_token", None)):
        raise TypeError(f"{type(credential).__name__} is synchronous: an asynchronous credential is needed here.")
    if (known := known_subscription_id(os.environ)) is not None:
        return known
    token = (await (credential or DefaultCloudShellCredential()).get_token(resource_manager_scope())).token
    listing = _Listing(lambda: first_enabled_subscription_id(token), LISTING_SECONDS)
    listing.start()
    return str(await wait(listing))
