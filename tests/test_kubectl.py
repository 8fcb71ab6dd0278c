"""The real kubectl, with ``azure-cloudshell token`` as its credential plugin; the server checks the token."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from azure_cloudshell_credential._serving.messages import Request, Response, compact
from azure_cloudshell_credential._serving.server import Server
from azure_cloudshell_credential.emulator import CloudShellEmulator
from azure_cloudshell_credential.emulator._issuer import verify

AKS = "6dae42f8-4368-4678-94ff-3960e28e3630"
CONFIG = """
apiVersion: v1
kind: Config
current-context: it
contexts: [{{name: it, context: {{cluster: it, user: me}}}}]
clusters: [{{name: it, cluster: {{server: "{url}", certificate-authority: "{ca_file}"}}}}]
users:
- name: me
  user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: "{command}",
    args: [-m, azure_cloudshell_credential, token, aks, --output, exec-credential]}}}}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("kubectl") is None,
        reason="needs kubectl: apt-get install kubernetes-client, or your system's package",
    ),
]


def respond(request: Request) -> Response:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or verify(token)["aud"] != AKS:
        return Response(401, compact({"kind": "Status", "status": "Failure", "code": 401, "reason": "Unauthorized"}))
    content = {"major": "1", "minor": "33", "gitVersion": "v1.33.0-of-the-stand-in", "platform": "linux/amd64"}
    return Response(200, compact(content) if request.path == "/version" else compact({"kind": "Status", "code": 404}))


def test_kubectl_asks_for_a_token_and_presents_it(in_cloud_shell: CloudShellEmulator, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    server = Server(respond, ssl_context=context)
    server.start()
    config = tmp_path / "config"
    url = f"https://localhost:{server.port}"
    config.write_text(CONFIG.format(url=url, ca_file=tmp_path / "ca.pem", command=sys.executable))
    try:
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(config), "get", "--raw", "/version"],
            env={**os.environ, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        server.stop()
    assert done.returncode == 0, done.stderr
    assert "v1.33.0-of-the-stand-in" in done.stdout
    assert {asked.resource for asked in in_cloud_shell.requests} == {AKS}
