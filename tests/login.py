"""A stand-in for Microsoft Entra ID and Azure Resource Manager, for clients that log in: MSAL and the Azure CLI.

Behind the emulator's proxy, so that a program which has Azure's addresses built in stays on this machine.
"""

from __future__ import annotations

import time
from pathlib import Path

import jwt

from azure_cloudshell_credential._serving.messages import Request, Response, compact
from azure_cloudshell_credential.emulator import Identity, _issuer
from azure_cloudshell_credential.emulator._azure_cli import SUBSCRIPTION_ID
from azure_cloudshell_credential.emulator._proxy import Proxy

HOSTS = ("login.microsoftonline.com", "management.azure.com")


class Login:
    """Runs both while it is entered.

    :param folder: where to put the certificate of its CA.
    """

    def __init__(self, folder: Path) -> None:
        self._proxy = Proxy(dict.fromkeys(HOSTS, self._respond), folder / "login-ca.pem")

    def __enter__(self) -> Login:
        self._proxy.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self._proxy.__exit__()

    @property
    def variables(self) -> dict[str, str]:
        """What leads the Azure CLI here, and nowhere else."""
        return self._proxy.environment

    def _respond(self, request: Request) -> Response:
        # The Azure CLI asks for the configuration with one slash and with two.
        parts = [part for part in request.path.split("/") if part]
        if parts[1:] == ["v2.0", ".well-known", "openid-configuration"]:
            return self._discovery(request, parts[0])
        if parts[1:] == ["oauth2", "v2.0", "token"]:
            return self._token(request, parts[0])
        tenant = _tenant_of(request)
        if tenant is None:
            return Response(401)
        if parts == ["tenants"]:
            return Response(200, compact({"value": [{"id": f"/tenants/{tenant}", "tenantId": tenant}]}))
        subscription = {
            "id": f"/subscriptions/{SUBSCRIPTION_ID}",
            "subscriptionId": SUBSCRIPTION_ID,
            "tenantId": tenant,
            "displayName": "Contoso",
            "state": "Enabled",
        }
        return Response(200, compact({"value": [subscription]})) if parts == ["subscriptions"] else Response(404)

    def _discovery(self, request: Request, tenant: str) -> Response:
        authority = f"https://{request.headers['host']}/{tenant}"
        content = {
            "issuer": f"{authority}/v2.0",
            "authorization_endpoint": f"{authority}/oauth2/v2.0/authorize",
            "token_endpoint": f"{authority}/oauth2/v2.0/token",
        }
        return Response(200, compact(content))

    def _token(self, request: Request, tenant: str) -> Response:
        form = request.fields()
        now = int(time.time())
        audience = form["scope"].split()[0].removesuffix("/.default")
        token = _issuer.signed(Identity(form["client_id"], "A service", tenant), audience, now, now + 3600, serial=1)
        return Response(200, compact({"token_type": "Bearer", "expires_in": 3600, "access_token": token}))


def _tenant_of(request: Request) -> str | None:
    """The tenant that a token is from, None if nobody here signed it."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    try:
        return str(_issuer.verify(token)["tid"])
    except jwt.InvalidTokenError:
        return None
