"""Clients that nobody here wrote, against the emulator: proof that it speaks the real protocol."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ManagedIdentityCredential, get_bearer_token_provider

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .conftest import ARM, claims_of

RECIPE = """
response=$(curl http://localhost:50342/oauth2/token --data "resource=https://management.azure.com/" -H Metadata:true -s)
access_token=$(echo $response | python -c 'import sys, json; print (json.load(sys.stdin)["access_token"])')
echo The access token is $access_token
"""


def test_the_documented_recipe_works_unchanged(on_the_default_port: CloudShellEmulator, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    (tmp_path / "python").symlink_to(sys.executable)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(["bash", "-c", RECIPE], env=environment, capture_output=True, text=True, check=True)
    token = run.stdout.removeprefix("The access token is ").strip()
    assert claims_of(token)["aud"] == "https://management.azure.com/"


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
