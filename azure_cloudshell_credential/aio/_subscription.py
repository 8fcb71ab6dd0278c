"""The asynchronous ``default_subscription_id``."""

from __future__ import annotations

import os

from azure.core.credentials_async import AsyncTokenCredential

from .._azure.subscription import first_enabled_subscription_id, known_subscription_id, resource_manager_scope
from .._tokens.in_flight import InFlight
from ._credential import DefaultCloudShellCredential
from ._waiting import wait


async def default_subscription_id(credential: AsyncTokenCredential | None = None) -> str:
    """The id of the subscription to work in, found as the synchronous ``default_subscription_id`` finds it.

    :param credential: an asynchronous credential. Default: a ``DefaultCloudShellCredential``.
    :paramtype credential: azure.core.credentials_async.AsyncTokenCredential
    :rtype: str
    :raises LookupError: if there is none; the message says how to choose one.
    :raises TypeError: for a synchronous credential.
    """
    if (known := known_subscription_id(os.environ)) is not None:
        return known
    pending = (credential or DefaultCloudShellCredential()).get_token(resource_manager_scope())
    if not hasattr(pending, "__await__"):
        raise TypeError("default_subscription_id of azure_cloudshell_credential.aio needs an asynchronous credential.")
    token = (await pending).token
    listing = InFlight(
        lambda: first_enabled_subscription_id(token),
        lambda _, outcome: outcome,
        120.0,
        lambda _: TimeoutError("Azure Resource Manager did not list the subscriptions in time."),
    )
    listing.start()
    return str(await wait(listing))
