"""``ResourceManagerStandIn``: as much of Azure Resource Manager as it takes to list virtual machines.

It checks tokens for real, by their signature, audience, expiry and tenant, and answers a bad one with the status and
code that Resource Manager uses. ``EmulatedAzure`` leads clients to it.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime, timezone
from threading import Lock
from typing import Any
from urllib.parse import urlencode
from uuid import NAMESPACE_URL, uuid5

import jwt

from .._endpoint import audiences
from .._serving.messages import Request, Response, compact, error_body, error_response
from . import _issuer
from ._azure_cli import SUBSCRIPTION_ID, SUBSCRIPTION_NAME
from ._emulator import CloudShellEmulator
from ._responder import KEPT

_PUBLIC_AUDIENCE = "https://management.core.windows.net/"


def _audiences_of(cloud: audiences.Cloud) -> tuple[str, ...]:
    core, base = cloud.resources.get("arm", _PUBLIC_AUDIENCE).rstrip("/"), cloud.resource_manager
    return (f"{core}/", core, f"{base}/", base)


_AUDIENCES = {
    cloud.resource_manager.removeprefix("https://"): _audiences_of(cloud)
    for cloud in map(audiences.cloud_named, ("PROD", "Fairfax", "Mooncake"))
}
HOSTS = tuple(_AUDIENCES)
"""Resource Manager's, in the public and the sovereign clouds."""

_GROUP = "/subscriptions/{subscription_id}/resourceGroups/{group}/providers/Microsoft.Compute"

_MACHINES = (
    ("web-01", "shop-prod", "westeurope", "Standard_D2s_v5", "Linux", "running", {"env": "prod"}),
    ("web-02", "shop-prod", "westeurope", "Standard_D2s_v5", "Linux", "running", {"env": "prod"}),
    ("sql-01", "shop-prod", "northeurope", "Standard_E4s_v5", "Windows", "running", {"env": "prod"}),
    ("build-agent", "ci", "eastus", "Standard_F4s_v2", "Linux", "deallocated", {"env": "dev", "autostart": "true"}),
    ("jumpbox", "ops", "westeurope", "Standard_B1s", "Linux", "stopped", {"env": "dev"}),
)


_RUNNING = {"start": "running", "restart": "running", "powerOff": "stopped", "deallocate": "deallocated"}
_MACHINES_PATH = ("providers", "microsoft.compute", "virtualmachines")
_LOCATIONS = (("eastus", "East US"), ("northeurope", "North Europe"), ("westeurope", "West Europe"))


class _RejectedError(Exception):
    def __init__(self, code: str, message: str, challenge: str = "") -> None:
        super().__init__(code)
        header = challenge or f'Bearer error="invalid_token", error_description="{code}"'
        self.response = Response(401, error_body(code, message), {"WWW-Authenticate": header})


class ResourceManagerStandIn:
    """Lists the subscriptions and virtual machines of a made-up company to clients with a token for them.

    :param shell: the emulator whose tokens it takes.
    :keyword str subscription_tenant_id: the tenant of the subscription. Default: the one signed in to at the time.
    :keyword int page_size: how many virtual machines a page holds.
    :ivar requests: the method and target of each request so far; the last 10,000 are kept.
    :ivar power: the state of each machine.
    """

    def __init__(
        self, shell: CloudShellEmulator, *, subscription_tenant_id: str | None = None, page_size: int = 2
    ) -> None:
        self._shell = shell
        self._tenant_id = subscription_tenant_id
        self._page_size = page_size
        self._mutex = Lock()
        self.reset()

    def reset(self) -> None:
        """Forget what was asked, a claims challenge, and which machines were switched."""
        self.claims_challenge: str | None = None
        self.requests: list[str] = []
        self.power: dict[str, str] = {name: state for name, _, _, _, _, state, _ in _MACHINES}

    def challenge_claims(self, claims: str | None) -> None:
        """Reject tokens with a claims challenge, as after a revocation; None ends it."""
        self.claims_challenge = claims

    def respond(self, request: Request) -> Response:
        """Respond to a request."""
        try:
            return self._answer(request)
        except _RejectedError as rejected:
            return rejected.response

    def _answer(self, request: Request) -> Response:
        # Resource Manager does not mind the case of its paths.
        parts = request.path.strip("/").split("/")
        is_of_a_subscription = len(parts) > 1 and parts[0].lower() == "subscriptions"
        self._authenticate(request, needs_tenant=is_of_a_subscription)
        if parts[0].lower() in ("subscriptions", "tenants") and "api-version" not in request.query:
            return error_response(400, "MissingApiVersionParameter", "The api-version query parameter is required.")
        if parts == ["subscriptions"]:
            return _listing(self._subscriptions())
        if parts == ["tenants"]:
            tenant = self._shell.identity.tenant_id
            return _listing([{"id": f"/tenants/{tenant}", "tenantId": tenant}])
        if not is_of_a_subscription:
            return _not_found(request)
        if parts[1] != SUBSCRIPTION_ID:
            return error_response(404, "SubscriptionNotFound", f"The subscription '{parts[1]}' could not be found.")
        return self._in_subscription(request, parts[2:])

    def _in_subscription(self, request: Request, parts: list[str]) -> Response:
        match [part.lower() for part in parts]:
            case []:
                return Response(200, compact(self._subscriptions()[1]))
            case ["locations"]:
                return _listing([_location(name, shown) for name, shown in _LOCATIONS])
            case ["resourcegroups"]:
                return _listing([_group(name) for name in _GROUPS])
            case ["resourcegroups", name] if name in _GROUPS:
                return Response(200, compact(_group(name)))
            case path if path == list(_MACHINES_PATH):
                return self._page(request, list(_MACHINES))
            case ["resourcegroups", group, "providers", "microsoft.compute", "virtualmachines", *rest] if (
                group in _GROUPS
            ):
                return self._machines_of_group(request, group, rest)
        return _not_found(request)

    def _machines_of_group(self, request: Request, group: str, rest: list[str]) -> Response:
        of_group = [machine for machine in _MACHINES if machine[1] == group]
        if not rest:
            return self._page(request, of_group)
        found = [machine for machine in of_group if machine[0] == rest[0]]
        if not found:
            return error_response(
                404,
                "ResourceNotFound",
                f"The Resource 'Microsoft.Compute/virtualMachines/{rest[0]}' under resource group '{group}' was not "
                "found.",
            )
        machine = self._machine(*found[0])
        match rest[1:]:
            case [] if request.method == "GET":
                return Response(200, compact(machine))
            case ["instanceview"] if request.method == "GET":
                return Response(200, compact(machine["properties"]["instanceView"]))
            case [action] if request.method == "POST":
                for name, state in _RUNNING.items():
                    if name.lower() == action:
                        self.power[rest[0]] = state
                        return Response(200)
        return _not_found(request)

    def _subscriptions(self) -> list[dict[str, Any]]:
        subscription = {
            "id": f"/subscriptions/{SUBSCRIPTION_ID}",
            "subscriptionId": SUBSCRIPTION_ID,
            "tenantId": self._tenant_id or self._shell.identity.tenant_id,
            "displayName": SUBSCRIPTION_NAME,
            "state": "Enabled",
        }
        retired = {
            **subscription,
            "id": "/subscriptions/00000000-0000-4000-8000-000000000000",
            "subscriptionId": "00000000-0000-4000-8000-000000000000",
            "displayName": "Contoso Trial (expired)",
            "state": "Disabled",
        }
        return [retired, subscription]

    def _page(self, request: Request, machines: list[Any]) -> Response:
        skip = request.query.get("$skiptoken", "0")
        first = int(skip) if skip.isascii() and skip.isdigit() else 0
        page: dict[str, Any] = {
            "value": [self._machine(*machine) for machine in machines[first : first + self._page_size]]
        }
        if first + self._page_size < len(machines):
            query = {**request.query, "$skiptoken": str(first + self._page_size)}
            page["nextLink"] = f"https://{request.headers['host']}{request.path}?{urlencode(query)}"
        return Response(200, compact(page))

    def _machine(
        self, name: str, group: str, region: str, size: str, system: str, _: str, tags: dict[str, str]
    ) -> dict[str, Any]:
        path = _GROUP.format(subscription_id=SUBSCRIPTION_ID, group=group)
        state = self.power[name]
        return {
            "id": f"{path}/virtualMachines/{name}",
            "name": name,
            "type": "Microsoft.Compute/virtualMachines",
            "location": region,
            "tags": tags,
            "properties": {
                "vmId": str(uuid5(NAMESPACE_URL, name)),
                "hardwareProfile": {"vmSize": size},
                "storageProfile": {"osDisk": {"osType": system, "createOption": "FromImage"}},
                "provisioningState": "Succeeded",
                "instanceView": {
                    "statuses": [
                        {"code": "ProvisioningState/succeeded", "level": "Info"},
                        {"code": f"PowerState/{state}", "level": "Info", "displayStatus": f"VM {state}"},
                    ]
                },
            },
        }

    def _authenticate(self, request: Request, *, needs_tenant: bool) -> None:
        """Check the token that came with a request.

        Messages as Resource Manager words them, public examples: foundry-dev-tools#461 (expired),
        active-directory-dotnetcore-daemon-v2#145 (audience), azure-sdk-for-python#38382 (tenant).
        """
        with self._mutex:
            self.requests.append(f"{request.method} {request.target}")
            del self.requests[:-KEPT]
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not token:
            raise _RejectedError(
                "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."
            )
        if scheme.lower() != "bearer":
            raise _RejectedError(
                "AuthenticationFailedInvalidHeader",
                "Authentication failed. The 'Authorization' header is provided in an invalid format.",
            )
        try:
            claims = _issuer.verify(token)
        except jwt.InvalidTokenError:
            raise _RejectedError("InvalidAuthenticationToken", "The access token is invalid.") from None
        accepted = _AUDIENCES[request.headers["host"].partition(":")[0].lower()]
        if claims["aud"] not in accepted:
            allowed = ",".join(f"'{audience}'" for audience in accepted)
            raise _RejectedError(
                "InvalidAuthenticationTokenAudience",
                f"The access token has been obtained for wrong audience or resource '{claims['aud']}'. It should "
                f"exactly match with one of the allowed audiences {allowed}.",
            )
        if self._shell.has_expired(claims):
            expiry = datetime.fromtimestamp(claims["exp"], timezone.utc)
            raise _RejectedError(
                "ExpiredAuthenticationToken",
                f"The access token expiry UTC time '{expiry:%m/%d/%Y %I:%M:%S %p}' is earlier than current UTC time "
                f"'{datetime.now(timezone.utc):%m/%d/%Y %I:%M:%S %p}'.",
            )
        if self.claims_challenge is not None:
            encoded = b64encode(self.claims_challenge.encode()).decode()
            raise _RejectedError(
                "AuthenticationFailed",
                "Authentication failed.",
                f'Bearer authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", '
                f'error="insufficient_claims", claims="{encoded}"',
            )
        if needs_tenant:
            self._check_tenant(claims["tid"])

    def _check_tenant(self, tenant_id: str) -> None:
        expected = self._tenant_id or self._shell.identity.tenant_id
        if tenant_id != expected:
            raise _RejectedError(
                "InvalidAuthenticationTokenTenant",
                f"The access token is from the wrong issuer '{_issuer.issuer(tenant_id)}'. It must match the tenant "
                f"'{_issuer.issuer(expected)}' associated with this subscription.",
            )


_GROUPS = {group: region for _, group, region, *_ in reversed(_MACHINES)}


def _group(name: str) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{SUBSCRIPTION_ID}/resourceGroups/{name}",
        "name": name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": _GROUPS[name],
        "properties": {"provisioningState": "Succeeded"},
    }


def _location(name: str, shown: str) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{SUBSCRIPTION_ID}/locations/{name}",
        "name": name,
        "displayName": shown,
        "regionalDisplayName": shown,
        "metadata": {"regionType": "Physical"},
    }


def _listing(items: list[dict[str, Any]]) -> Response:
    return Response(200, compact({"value": items}))


def _not_found(request: Request) -> Response:
    return error_response(404, "InvalidResourceType", f"Nothing is served at {request.method} {request.path}.")
