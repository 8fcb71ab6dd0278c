"""Which subscription to work in, where nothing says so.

Nothing in Cloud Shell's image sets ``AZURE_SUBSCRIPTION_ID``. Its own start-up takes the subscription from
``ACC_STORAGE_PROFILE`` (PSCloudShellStartup.ps1), and the Azure CLI keeps a default in its profile.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping

from azure.core.credentials import TokenCredential

from .._endpoint.audiences import cloud_named
from .._endpoint.untrusted_json import read_json, read_json_file
from .credential import check_is_synchronous

_LOGGER = logging.getLogger(__name__)
_HOW_TO_CHOOSE = "To choose one, set AZURE_SUBSCRIPTION_ID or run 'az account set --subscription'."


def default_subscription_id(credential: TokenCredential | None = None) -> str:
    """The id of the subscription to work in.

    The first of these that exists: ``AZURE_SUBSCRIPTION_ID``; the default subscription of the Azure CLI (``az account
    set``), unless it belongs to another tenant than the one that Cloud Shell is signed in to (``ACC_TID``); the
    subscription of Cloud Shell's storage (``ACC_STORAGE_PROFILE``); the first enabled subscription that Azure Resource
    Manager lists, with a warning in the log that it was chosen so.

    :param credential: asks Resource Manager, if it comes to that. Default: a ``DefaultCloudShellCredential``.
    :paramtype credential: azure.core.credentials.TokenCredential
    :rtype: str
    :raises LookupError: if there is none; the message says how to choose one.
    :raises TypeError: for an asynchronous credential; ``azure_cloudshell_credential.aio`` has the function for it.
    :raises azure.core.exceptions.ClientAuthenticationError: if there is no token to ask Resource Manager with.
    """
    if credential is not None:
        check_is_synchronous(credential)
    if (known := known_subscription_id(os.environ)) is not None:
        return known
    if credential is None:
        from .default_chain import DefaultCloudShellCredential

        credential = DefaultCloudShellCredential()
    return first_enabled_subscription_id(credential.get_token(resource_manager_scope()).token)


def known_subscription_id(environ: Mapping[str, str]) -> str | None:
    """The subscription that this machine knows of, without asking Azure."""
    return environ.get("AZURE_SUBSCRIPTION_ID") or _of_azure_cli(environ) or _of_cloud_shell(environ)


def _of_azure_cli(environ: Mapping[str, str]) -> str | None:
    folder = environ.get("AZURE_CONFIG_DIR") or os.path.join(os.path.expanduser("~"), ".azure")
    profile = read_json_file(os.path.join(folder, "azureProfile.json"))
    subscriptions = profile.get("subscriptions") if isinstance(profile, dict) else None
    for subscription in subscriptions if isinstance(subscriptions, list) else []:
        if not isinstance(subscription, dict) or not subscription.get("isDefault"):
            continue
        identifier, tenant = subscription.get("id"), subscription.get("tenantId")
        here = environ.get("ACC_TID", "").casefold()
        is_elsewhere = here and isinstance(tenant, str) and tenant.casefold() != here
        # For a tenant without subscriptions the Azure CLI puts the tenant in their place.
        if isinstance(identifier, str) and identifier and identifier != tenant and not is_elsewhere:
            return identifier
    return None


def _of_cloud_shell(environ: Mapping[str, str]) -> str | None:
    profile = read_json(environ.get("ACC_STORAGE_PROFILE", ""))
    resource = profile.get("storageAccountResourceId") if isinstance(profile, dict) else None
    match = re.match(r"/subscriptions/([^/]+)", resource, re.IGNORECASE) if isinstance(resource, str) else None
    return match[1] if match else None


def resource_manager_scope() -> str:
    """The scope of Resource Manager, in the cloud that ``ACC_CLOUD`` names."""
    return f"{cloud_named(os.environ.get('ACC_CLOUD')).resource_manager}/.default"


def first_enabled_subscription_id(token: str) -> str:
    """The first enabled subscription that Resource Manager lists for the user.

    :param token: a token for Resource Manager.
    :raises LookupError: if there is none.
    """
    import requests

    def bearer(request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Not as a header, in whose place requests would put what .netrc says.
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    url = f"{resource_manager_scope().removesuffix('/.default')}/subscriptions?api-version=2022-12-01"
    while url:
        reply = requests.get(url, auth=bearer, timeout=30)
        reply.raise_for_status()
        page = reply.json()
        for subscription in page["value"]:
            if subscription["state"] == "Enabled":
                identifier = str(subscription["subscriptionId"])
                _LOGGER.warning("Working in %s, the first enabled subscription. %s", identifier, _HOW_TO_CHOOSE)
                return identifier
        url = page.get("nextLink")
    raise LookupError(f"There is no enabled subscription in this tenant. {_HOW_TO_CHOOSE}")
