"""Which subscription to work in, where nothing says so.

Nothing in Cloud Shell's image sets ``AZURE_SUBSCRIPTION_ID``. Its own start-up takes the subscription from
``ACC_STORAGE_PROFILE`` (PSCloudShellStartup.ps1), and the Azure CLI keeps a default in its profile.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from azure.core.credentials import TokenCredential
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseTimeoutError,
)

from .._endpoint.audiences import cloud_named
from .._endpoint.azure_cli import profile_path
from .._endpoint.identity import identity_in
from .._endpoint.text import quoted, sentence
from .._endpoint.token import claims_of
from .._endpoint.untrusted_json import read_json, read_json_file
from .credential import check_is_synchronous

_LOGGER = logging.getLogger(__name__)
_ASKED = "Azure Resource Manager, asked for the subscriptions,"
_HOW_TO_CHOOSE = "To choose one, set AZURE_SUBSCRIPTION_ID or run 'az account set --subscription'."

LISTING_SECONDS = 120.0
"""Seconds for all pages together."""

_MAX_PAGES = 100
_MAX_BODY = 16 * 1024 * 1024
"""Bytes of a page. A subscription has less than 2 kB."""


def default_subscription_id(credential: TokenCredential | None = None) -> str:
    """The id of the subscription to work in.

    The first of these that exists: ``AZURE_SUBSCRIPTION_ID``; the default subscription of the Azure CLI (``az account
    set``), unless it belongs to another tenant than the one that Cloud Shell is signed in to (``ACC_TID``); the
    subscription of Cloud Shell's storage (``ACC_STORAGE_PROFILE``); the first enabled subscription that Azure Resource
    Manager lists, with a warning in the log that it was chosen so.

    :param credential: asks Resource Manager, if it comes to that. Default: a ``DefaultCloudShellCredential``.
    :paramtype credential: azure.core.credentials.TokenCredential
    :rtype: str
    :raises LookupError: if Resource Manager lists none that is enabled; the message names the tenant and the others.
    :raises TypeError: for an asynchronous credential; ``azure_cloudshell_credential.aio`` has the function for it.
    :raises azure.core.exceptions.ClientAuthenticationError: if there is no token to ask Resource Manager with, or if
        Resource Manager does not take it.
    :raises azure.core.exceptions.AzureError: if Resource Manager cannot be reached, refuses, or does not answer with a
        list.
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
    profile = read_json_file(profile_path(environ))
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
    :raises azure.core.exceptions.AzureError: if Resource Manager cannot be asked, refuses, or answers with anything but
        a list.
    """
    disabled: list[str] = []
    for subscription in _listed(token):
        identifier, state = subscription.get("subscriptionId"), subscription.get("state")
        if not isinstance(identifier, str) or not identifier:
            continue
        if state == "Enabled":
            _LOGGER.warning("Working in %s, the first enabled subscription. %s", quoted(identifier), _HOW_TO_CHOOSE)
            return identifier
        disabled.append(quoted(f"{subscription.get('displayName') or identifier} ({state})", 100))
    tenant = identity_in(claims_of(token)).tenant_id or os.environ.get("ACC_TID") or "this tenant"
    there_are = f": {', '.join(disabled[:10])}" if disabled else ""
    raise LookupError(
        f"There is no enabled subscription in {tenant}{there_are}. Switch the directory in the portal, or ask for "
        "access to a subscription."
    )


def _listed(token: str) -> Iterator[dict[str, Any]]:
    """The subscriptions that Resource Manager lists, page by page, within ``LISTING_SECONDS``."""
    base = resource_manager_scope().removesuffix("/.default")
    deadline = time.monotonic() + LISTING_SECONDS
    url: object = f"{base}/subscriptions?api-version=2022-12-01"
    for _ in range(_MAX_PAGES):
        # The token goes nowhere else, whatever a page says.
        if not isinstance(url, str) or not re.fullmatch(rf"{re.escape(base)}(?::443)?/[!-~]*", url, re.IGNORECASE):
            raise HttpResponseError(f"{_ASKED} named a next page at another address, which is not asked: {_shown(url)}")
        page = _page(url, token, deadline)
        value = page.get("value") if isinstance(page, dict) else None
        if not isinstance(page, dict) or not isinstance(value, list):
            raise HttpResponseError(f"{_ASKED} returned an unusable response: it holds no list of subscriptions.")
        yield from (each for each in value if isinstance(each, dict))
        url = page.get("nextLink")
        if not url:
            return
    raise HttpResponseError(f"{_ASKED} named more than {_MAX_PAGES} pages.")


def _page(url: str, token: str, deadline: float) -> object:
    import requests

    def bearer(request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Not as a header, in whose place requests would put what .netrc says.
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    body = bytearray()
    problem: Exception | None = None
    try:
        with requests.get(url, auth=bearer, timeout=30, stream=True, allow_redirects=False) as reply:
            status = reply.status_code
            for chunk in reply.iter_content(65536):
                body += chunk
                if len(body) > _MAX_BODY or time.monotonic() > deadline:
                    break
    except (requests.RequestException, OSError) as error:
        problem = error
    # Outside of the handler: the exception holds the request, and that the token.
    if problem is not None:
        raise ServiceRequestError(f"{_ASKED} could not be reached: {_shown(str(problem) or type(problem).__name__)}")
    if time.monotonic() > deadline:
        raise overdue()
    content = read_json(bytes(body)) if len(body) <= _MAX_BODY else None
    if status == 200:
        return content
    kind = ClientAuthenticationError if status == 401 else HttpResponseError
    refused = kind(f"{_ASKED} answered {status}: {_shown(_said(content, bytes(body)))}")
    refused.status_code = status
    raise refused


def overdue() -> AzureError:
    """The error where listing takes too long."""
    return ServiceResponseTimeoutError(f"{_ASKED} did not answer in time.")


def _said(content: object, body: bytes) -> str:
    """What an error reply says."""
    error = content.get("error") if isinstance(content, dict) else None
    parts = (error.get("code"), error.get("message")) if isinstance(error, dict) else ()
    return ": ".join(str(part) for part in parts if part) or body[:2000].decode(errors="replace") or "nothing"


def _shown(text: object) -> str:
    return sentence(quoted(str(text), 300))
