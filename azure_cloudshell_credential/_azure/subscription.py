"""Which subscription to work in, where nothing says so.

Nothing in Cloud Shell's image sets ``AZURE_SUBSCRIPTION_ID``. Its own start-up takes the subscription from
``ACC_STORAGE_PROFILE`` (PSCloudShellStartup.ps1), and the Azure CLI keeps a default in its profile.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

# typing's own would cost the command line its import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential


def default_subscription_id(credential: TokenCredential | None = None) -> str:
    """The id of the subscription to work in.

    The first that there is of: ``AZURE_SUBSCRIPTION_ID``; the default subscription of the Azure CLI (``az account
    set``); the subscription of Cloud Shell's storage (``ACC_STORAGE_PROFILE``); the first enabled subscription that
    Azure Resource Manager lists.

    :param credential: asks Resource Manager, if it comes to that. Default: a ``DefaultCloudShellCredential``.
    :raises LookupError: if there is none; the message says how to choose one.
    :raises azure.core.exceptions.ClientAuthenticationError: if there is no token to ask Resource Manager with.
    """
    known = known_subscription_id(os.environ)
    return known if known is not None else first_enabled_subscription_id(credential)


def known_subscription_id(environ: Mapping[str, str]) -> str | None:
    """The subscription that this machine knows of, without asking Azure."""
    return environ.get("AZURE_SUBSCRIPTION_ID") or _of_azure_cli(environ) or _of_cloud_shell(environ)


def _of_azure_cli(environ: Mapping[str, str]) -> str | None:
    folder = environ.get("AZURE_CONFIG_DIR") or os.path.join(os.path.expanduser("~"), ".azure")
    try:
        # The Azure CLI writes a byte order mark.
        with open(os.path.join(folder, "azureProfile.json"), encoding="utf-8-sig") as file:
            profile = json.load(file)
    except (OSError, ValueError):
        return None
    subscriptions = profile.get("subscriptions") if isinstance(profile, dict) else None
    for subscription in subscriptions if isinstance(subscriptions, list) else []:
        if isinstance(subscription, dict) and subscription.get("isDefault"):
            identifier = subscription.get("id")
            # For a tenant without subscriptions the Azure CLI puts the tenant in their place.
            if isinstance(identifier, str) and identifier and identifier != subscription.get("tenantId"):
                return identifier
    return None


def _of_cloud_shell(environ: Mapping[str, str]) -> str | None:
    try:
        profile = json.loads(environ.get("ACC_STORAGE_PROFILE", ""))
    except ValueError:
        return None
    resource = profile.get("storageAccountResourceId") if isinstance(profile, dict) else None
    parts = resource.split("/") if isinstance(resource, str) else []
    is_of_a_subscription = len(parts) > 2 and parts[1].lower() == "subscriptions" and parts[2]
    return parts[2] if is_of_a_subscription else None


def first_enabled_subscription_id(
    credential: TokenCredential | None = None,
    *,
    resource_manager: str | None = None,
    scope: str | None = None,
    verify: bool | str = True,
) -> str:
    """The first enabled subscription that Resource Manager lists for the user.

    :param credential: gets the token. Default: a ``DefaultCloudShellCredential``.
    :keyword str resource_manager: the base URL. Default: that of the cloud that ``ACC_CLOUD`` names.
    :keyword str scope: what the token is for. Default: Resource Manager.
    :keyword verify: the CA certificates to trust, as requests takes them.
    :raises LookupError: if there is none.
    """
    import requests

    from .._endpoint import audiences
    from .default_chain import DefaultCloudShellCredential
    from .requests_auth import CloudShellAuth

    base = resource_manager or audiences.cloud_named(os.environ.get("ACC_CLOUD")).resource_manager
    auth = CloudShellAuth(scope or f"{base}/.default", credential=credential or DefaultCloudShellCredential())
    url: str | None = f"{base}/subscriptions?api-version=2022-12-01"
    while url:
        reply = requests.get(url, auth=auth, verify=verify, timeout=30)
        reply.raise_for_status()
        page = reply.json()
        for subscription in page["value"]:
            if subscription["state"] == "Enabled":
                return str(subscription["subscriptionId"])
        url = page.get("nextLink")
    raise LookupError(
        "There is no enabled subscription in this tenant. Set AZURE_SUBSCRIPTION_ID to one, or run "
        "'az account set --subscription'."
    )
