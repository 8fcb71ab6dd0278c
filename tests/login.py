"""A stand-in for Microsoft Entra ID and Azure Resource Manager, for clients that log in: MSAL and the Azure CLI.

Reached at its own address, or through an HTTP proxy that takes connections for Azure's hosts to it and refuses all
others, so that a program which has Azure's addresses built in stays on this machine.
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

import jwt
import trustme
from aiohttp import web

from azure_cloudshell_credential.emulator import Identity, _tokens
from azure_cloudshell_credential.emulator._server import BackgroundServer
from azure_cloudshell_credential.emulator.resource_manager import SUBSCRIPTION_ID

from .misbehaving import read_request

HOSTS = ("login.microsoftonline.com", "management.azure.com")


class Login:
    """Runs both while it is entered.

    :param folder: where to put the certificate of its CA.
    """

    def __init__(self, folder: Path) -> None:
        self.ca_file = str(folder / "login-ca.pem")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost", *HOSTS).configure_cert(context)
        self._server = BackgroundServer(self._app, ssl_context=context)

    def __enter__(self) -> Login:
        self._server.start()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self._server.stop()

    @property
    def authority(self) -> str:
        """The URL of the authority that every tenant is part of."""
        return f"https://localhost:{self._server.port}/common"

    @property
    def variables(self) -> dict[str, str]:
        """What leads the Azure CLI here, and nowhere else."""
        return {
            "HTTPS_PROXY": f"http://127.0.0.1:{self._listener.getsockname()[1]}",
            "NO_PROXY": "localhost,127.0.0.1",
            "REQUESTS_CA_BUNDLE": self.ca_file,
        }

    def _app(self) -> web.Application:
        app = web.Application()
        # Both are asked for.
        app.router.add_get("/{tenant}/v2.0/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/{tenant}//v2.0/.well-known/openid-configuration", self._discovery)
        app.router.add_post("/{tenant}/oauth2/v2.0/token", self._token)
        app.router.add_get("/tenants", self._tenants)
        app.router.add_get("/subscriptions", self._subscriptions)
        return app

    async def _discovery(self, request: web.Request) -> web.Response:
        authority = f"https://{request.host}/{request.match_info['tenant']}"
        return web.json_response(
            {
                "issuer": f"{authority}/v2.0",
                "authorization_endpoint": f"{authority}/oauth2/v2.0/authorize",
                "token_endpoint": f"{authority}/oauth2/v2.0/token",
            }
        )

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        now = int(time.time())
        service = Identity(str(form["client_id"]), "A service", request.match_info["tenant"])
        audience = str(form["scope"]).split()[0].removesuffix("/.default")
        token = _tokens.mint(service, audience, now, now + 3600, serial=1)
        return web.json_response({"token_type": "Bearer", "expires_in": 3600, "access_token": token})

    async def _tenants(self, request: web.Request) -> web.Response:
        tenant = _tenant_of(request)
        return web.json_response({"value": [{"id": f"/tenants/{tenant}", "tenantId": tenant}]})

    async def _subscriptions(self, request: web.Request) -> web.Response:
        subscription = {
            "id": f"/subscriptions/{SUBSCRIPTION_ID}",
            "subscriptionId": SUBSCRIPTION_ID,
            "tenantId": _tenant_of(request),
            "displayName": "Contoso",
            "state": "Enabled",
        }
        return web.json_response({"value": [subscription]})

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head = read_request(client).split()
            client.settimeout(None)
            if head[:1] != [b"CONNECT"] or head[1].decode().partition(":")[0] not in HOSTS:
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", self._server.port)) as server:
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                back = Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while received := source.recv(65536):
            sink.sendall(received)
        sink.shutdown(socket.SHUT_WR)


def _tenant_of(request: web.Request) -> str:
    """The tenant that a token is from.

    :raises aiohttp.web.HTTPUnauthorized: if nobody here signed it.
    """
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    try:
        return str(_tokens.verify(token)["tid"])
    except jwt.InvalidTokenError:
        raise web.HTTPUnauthorized from None
