"""``ResourceManagerStandIn``: as much of Azure Resource Manager as it takes to list virtual machines.

It checks tokens for real, by their signature, audience, expiry and tenant, and answers a bad one with the status and
code that Resource Manager uses. HTTPS with a throwaway CA, since Azure SDK clients send tokens over HTTPS only.
"""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any
from uuid import NAMESPACE_URL, uuid5

try:
    import jwt
    import trustme
    from aiohttp import web
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        f"The stand-in needs {_missing.name}: pip install 'azure-cloudshell-credential[demo]'", name=_missing.name
    ) from None

from . import _tokens, faults
from ._emulator import CloudShellEmulator
from ._server import BackgroundServer, error_response

SUBSCRIPTION_ID = "00000000-1111-4222-8333-444444444444"
AUDIENCES = (
    "https://management.core.windows.net/",
    "https://management.core.windows.net",
    "https://management.azure.com/",
    "https://management.azure.com",
)
_PROVIDER = "/subscriptions/{subscription_id}/providers/Microsoft.Compute"
_GROUP = "/subscriptions/{subscription_id}/resourceGroups/{group}/providers/Microsoft.Compute"

_MACHINES = (
    ("web-01", "shop-prod", "westeurope", "Standard_D2s_v5", "Linux", "running", {"env": "prod"}),
    ("web-02", "shop-prod", "westeurope", "Standard_D2s_v5", "Linux", "running", {"env": "prod"}),
    ("sql-01", "shop-prod", "northeurope", "Standard_E4s_v5", "Windows", "running", {"env": "prod"}),
    ("build-agent", "ci", "eastus", "Standard_F4s_v2", "Linux", "deallocated", {"env": "dev", "autostart": "true"}),
    ("jumpbox", "ops", "westeurope", "Standard_B1s", "Linux", "stopped", {"env": "dev"}),
)


class _RejectedError(Exception):
    def __init__(self, code: str, message: str, challenge: str = "") -> None:
        super().__init__(code)
        self.response = web.json_response(
            text=faults.error_body(code, message),
            status=401,
            headers={"WWW-Authenticate": challenge or f'Bearer error="invalid_token", error_description="{code}"'},
        )


class ResourceManagerStandIn:
    """Lists the subscriptions and virtual machines of an imaginary company to whoever has a token for them.

    :param shell: the emulator whose tokens it takes.
    :keyword str subscription_tenant_id: the tenant of the subscription. Default: the one signed in to at the time.
    :keyword int page_size: how many virtual machines a page holds.
    """

    def __init__(
        self, shell: CloudShellEmulator, *, subscription_tenant_id: str | None = None, page_size: int = 2
    ) -> None:
        self._shell = shell
        self._tenant_id = subscription_tenant_id
        self._page_size = page_size
        self._mutex = Lock()
        self._folder: TemporaryDirectory[str] | None = None
        self._server: BackgroundServer | None = None
        self.claims_challenge: str | None = None
        self.requests: list[str] = []
        self.power: dict[str, str] = {name: state for name, _, _, _, _, state, _ in _MACHINES}

    @property
    def url(self) -> str:
        """The base URL, for ``base_url``."""
        assert self._server is not None
        return f"https://localhost:{self._server.port}"

    @property
    def ca_file(self) -> str:
        """The certificate of the throwaway CA, for ``connection_verify``."""
        assert self._folder is not None
        return str(Path(self._folder.name) / "ca.pem")

    def challenge_claims(self, claims: str | None) -> None:
        """Reject tokens with a claims challenge, as after a revocation; None ends it."""
        self.claims_challenge = claims

    def __enter__(self) -> ResourceManagerStandIn:
        authority = trustme.CA()
        self._folder = TemporaryDirectory()
        authority.cert_pem.write_to_path(self.ca_file)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        self._server = BackgroundServer(self._app, ssl_context=context)
        self._server.start()
        return self

    def __exit__(self, *args: object) -> None:
        if self._server is not None:
            self._server.stop()
        if self._folder is not None:
            self._folder.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._authenticated])
        app.router.add_get("/subscriptions", self._subscriptions)
        app.router.add_get(f"{_PROVIDER}/virtualMachines", self._virtual_machines)
        for action in ("start", "deallocate"):
            app.router.add_post(f"{_GROUP}/virtualMachines/{{name}}/{action}", self._change_power)
        return app

    @web.middleware
    async def _authenticated(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            self._authenticate(request)
        except _RejectedError as rejected:
            return rejected.response
        return await handler(request)

    async def _subscriptions(self, request: web.Request) -> web.Response:
        subscription = {
            "id": f"/subscriptions/{SUBSCRIPTION_ID}",
            "subscriptionId": SUBSCRIPTION_ID,
            "tenantId": self._tenant_id or self._shell.identity.tenant_id,
            "displayName": "Contoso Pay-As-You-Go",
            "state": "Enabled",
        }
        retired = {
            **subscription,
            "id": "/subscriptions/00000000-0000-4000-8000-000000000000",
            "subscriptionId": "00000000-0000-4000-8000-000000000000",
            "displayName": "Contoso Trial (expired)",
            "state": "Disabled",
        }
        return web.json_response({"value": [retired, subscription]})

    async def _virtual_machines(self, request: web.Request) -> web.Response:
        if (missing := self._unknown_subscription(request)) is not None:
            return missing
        if "api-version" not in request.query:
            return error_response(400, "MissingApiVersionParameter", "The api-version query parameter is required.")
        first = int(request.query.get("$skiptoken", "0"))
        machines = [self._machine(*machine) for machine in _MACHINES]
        page: dict[str, Any] = {"value": machines[first : first + self._page_size]}
        if first + self._page_size < len(machines):
            following = request.url.update_query({"$skiptoken": str(first + self._page_size)})
            page["nextLink"] = str(following)
        return web.json_response(page)

    async def _change_power(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if (missing := self._unknown_subscription(request)) is not None:
            return missing
        if name not in self.power:
            return error_response(404, "ResourceNotFound", f"The Resource 'virtualMachines/{name}' was not found.")
        self.power[name] = "running" if request.path.endswith("/start") else "deallocated"
        return web.Response(status=200)

    def _unknown_subscription(self, request: web.Request) -> web.Response | None:
        subscription_id = request.match_info["subscription_id"]
        if subscription_id == SUBSCRIPTION_ID:
            return None
        return error_response(404, "SubscriptionNotFound", f"The subscription '{subscription_id}' could not be found.")

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

    def _authenticate(self, request: web.Request) -> None:
        """Check the token that came with a request.

        Messages as Resource Manager words them, public examples: foundry-dev-tools#461 (expired),
        active-directory-dotnetcore-daemon-v2#145 (audience), azure-sdk-for-python#38382 (tenant).
        """
        with self._mutex:
            self.requests.append(f"{request.method} {request.path_qs}")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
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
            claims = _tokens.verify(token)
        except jwt.InvalidTokenError:
            raise _RejectedError("InvalidAuthenticationToken", "The access token is invalid.") from None
        if claims["aud"] not in AUDIENCES:
            allowed = ",".join(f"'{audience}'" for audience in AUDIENCES)
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
        if "subscription_id" in request.match_info:
            self._check_tenant(claims["tid"])

    def _check_tenant(self, tenant_id: str) -> None:
        expected = self._tenant_id or self._shell.identity.tenant_id
        if tenant_id != expected:
            raise _RejectedError(
                "InvalidAuthenticationTokenTenant",
                f"The access token is from the wrong issuer '{_tokens.issuer(tenant_id)}'. It must match the tenant "
                f"'{_tokens.issuer(expected)}' associated with this subscription.",
            )
