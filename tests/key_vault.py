"""As much of Key Vault as it takes to read a secret: its challenge, and a check of the token that answers it."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

from azure_cloudshell_credential._serving.messages import Request, Response, compact, error_body
from azure_cloudshell_credential._serving.server import Server
from azure_cloudshell_credential.emulator import CloudShellEmulator
from azure_cloudshell_credential.emulator._issuer import verify


class KeyVault:
    """Answers the first request with a challenge that names its tenant, as Key Vault does."""

    def __init__(self, shell: CloudShellEmulator, folder: Path, tenant_id: str | None = None) -> None:
        self._shell = shell
        self._tenant_id = tenant_id
        self.ca_file = str(folder / "vault-ca.pem")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(context)
        self._server = Server(self._secret, ssl_context=context)
        self.challenges = 0

    @property
    def url(self) -> str:
        return f"https://localhost:{self._server.port}"

    def __enter__(self) -> KeyVault:
        self._server.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.stop()

    def _secret(self, request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        tenant_id = self._tenant_id or self._shell.identity.tenant_id
        if scheme != "Bearer" or verify(token)["aud"] != "https://vault.azure.net":
            self.challenges += 1
            challenge = (
                f'Bearer authorization="https://login.microsoftonline.com/{tenant_id}", '
                'resource="https://vault.azure.net"'
            )
            body = error_body("Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
            return Response(401, body, {"WWW-Authenticate": challenge})
        name = request.path.split("/")[2]
        return Response(200, compact({"value": "s3cr3t", "id": f"{self.url}/secrets/{name}/1", "attributes": {}}))
