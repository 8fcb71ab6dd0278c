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

from azure_cloudshell_credential._serving.messages import Request, Response, compact
from azure_cloudshell_credential._serving.server import Server
from azure_cloudshell_credential.emulator import Identity, _tokens
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
        self._server = Server(self._respond, ssl_context=context)

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
        token = _tokens.mint(Identity(form["client_id"], "A service", tenant), audience, now, now + 3600, serial=1)
        return Response(200, compact({"token_type": "Bearer", "expires_in": 3600, "access_token": token}))

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


def _tenant_of(request: Request) -> str | None:
    """The tenant that a token is from, None if nobody here signed it."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    try:
        return str(_tokens.verify(token)["tid"])
    except jwt.InvalidTokenError:
        return None
