"""Clients that nobody here wrote, against the emulator: proof that it speaks the real protocol."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
import pytest
import trustme
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ManagedIdentityCredential, get_bearer_token_provider

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .conftest import ARM
from .misbehaving import _read_request

RECIPE = """
response=$(curl http://localhost:50342/oauth2/token --data "resource=https://management.azure.com/" -H Metadata:true -s)
access_token=$(echo $response | python -c 'import sys, json; print (json.load(sys.stdin)["access_token"])')
echo The access token is $access_token
"""


@pytest.fixture
def on_the_default_port() -> Iterator[CloudShellEmulator]:
    """An emulator where tools with the address built in look for it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 50342))
        except OSError:
            pytest.skip("port 50342 is in use")
    with CloudShellEmulator(port=50342) as shell:
        yield shell


def test_the_documented_recipe_works_unchanged(on_the_default_port: CloudShellEmulator, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    (tmp_path / "python").symlink_to(sys.executable)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(["bash", "-c", RECIPE], env=environment, capture_output=True, text=True, check=True)
    token = run.stdout.removeprefix("The access token is ").strip()
    assert jwt.decode(token, options={"verify_signature": False})["aud"] == "https://management.azure.com/"


def test_curl_is_told_of_a_denied_audience(shell: CloudShellEmulator) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    arguments = ["curl", shell.endpoint, "--data", "resource=https://azconfig.io/", "-H", "Metadata:true", "-s"]
    run = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "AudienceNotSupported" in run.stdout


def test_azure_identity_gets_a_token(shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSI_ENDPOINT", shell.endpoint)
    with ManagedIdentityCredential() as credential:
        assert credential.get_token(ARM).token == shell.issue("https://management.azure.com")[0]
        with pytest.raises(ClientAuthenticationError, match="AudienceNotSupported"):
            credential.get_token("https://azconfig.io/.default")


def test_the_bearer_token_provider_of_azure_identity_takes_our_credential(in_cloud_shell: CloudShellEmulator) -> None:
    provider = get_bearer_token_provider(CloudShellCredential(), ARM)
    assert provider() == provider() == in_cloud_shell.issue("https://management.azure.com")[0]
    assert len(in_cloud_shell.requests) == 1


@pytest.fixture
def login_authority(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Serves the discovery document that MSAL insists on before it asks the endpoint."""
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"https://localhost:{listener.getsockname()[1]}/common"
    document = (
        f'{{"issuer":"{url}/v2.0","authorization_endpoint":"{url}/oauth2/v2.0/authorize",'
        f'"token_endpoint":"{url}/oauth2/v2.0/token"}}'
    ).encode()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with context.wrap_socket(connection, server_side=True) as secured:
                _read_request(secured)
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(document)}\r\n"
                secured.sendall(f"{head}Connection: close\r\n\r\n".encode() + document)

    thread = Thread(target=serve, daemon=True)
    thread.start()
    yield url, str(ca_file)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_msal_gets_a_token(
    on_the_default_port: CloudShellEmulator, login_authority: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import msal

    url, ca_file = login_authority
    monkeypatch.setenv("AZUREPS_HOST_ENVIRONMENT", "cloud-shell/1.0")
    application = msal.PublicClientApplication(
        "04b07795-8ddb-461a-bbee-02f9e1bf7b46", authority=url, instance_discovery=False, verify=ca_file
    )

    def acquire(scope: str) -> Any:
        return application.acquire_token_interactive([scope], prompt="none")

    result = acquire(ARM)
    assert result["access_token"] == on_the_default_port.issue("https://management.azure.com")[0]
    assert acquire("https://azconfig.io/.default")["error"] == "AudienceNotSupported"
    for session in (application.http_client, getattr(application.http_client, "_http_client", None)):
        if session is not None and hasattr(session, "close"):
            session.close()
