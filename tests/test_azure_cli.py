"""The real Azure CLI: as a client of the emulator, and as the next in a chain. ``make clients`` installs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import AzureCliCredential, ChainedTokenCredential

from azure_cloudshell_credential import CloudShellCredential, DefaultCloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator

from . import outside
from .command import COMMAND, run
from .conftest import claims_of
from .login import Login
from .test_cli_run import SYNC

AZ = Path(__file__).parent.parent / ".az" / "bin" / "az"
ACR = "https://containerregistry.azure.net"
SERVICE = "00000000-0000-4000-8000-00000000aaaa"
TENANT = "11111111-aaaa-4bbb-8ccc-222222222222"
LOGIN = ("login", "--service-principal", "--username", SERVICE, "--password", "not-checked", "--tenant", TENANT)

pytestmark = [
    pytest.mark.clients,
    pytest.mark.slow,
    pytest.mark.skipif(not AZ.exists(), reason="needs the Azure CLI: make clients"),
]


@pytest.fixture(autouse=True)
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Login]:
    """An ``az`` that nobody has logged in to, and that reaches nothing but this machine."""
    monkeypatch.setenv("PATH", str(AZ.parent), prepend=os.pathsep)
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(tmp_path / "az"))
    monkeypatch.setenv("AZURE_CORE_COLLECT_TELEMETRY", "no")
    with Login(tmp_path) as login:
        for name, value in login.variables.items():
            monkeypatch.setenv(name, value)
        yield login


def az(*arguments: str) -> Any:
    """What ``az`` prints."""
    done = subprocess.run([str(AZ), *arguments, "--output", "json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def inside_emulated_azure(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a namespace of its own: in Cloud Shell mode az asks port 50342."""
    if reason := outside.why_not():
        pytest.skip(reason)
    emulate = [*COMMAND, "emulate", "--with-azure", "--exec", *command]
    return subprocess.run(
        outside.inside(folder / "record", *emulate), capture_output=True, text=True, timeout=120, check=False
    )


def test_az_logs_in_with_the_emulator(on_the_default_port: CloudShellEmulator) -> None:
    with on_the_default_port.as_environment():
        (account,) = az("login", "--identity")
        assert account["user"] == {"cloudShellID": True, "name": on_the_default_port.identity.user, "type": "user"}
        token = az("account", "get-access-token", "--resource", "https://vault.azure.net")
        assert token["accessToken"] == on_the_default_port.issue("https://vault.azure.net")[0]
        refused = subprocess.run(
            [str(AZ), "account", "get-access-token", "--resource", ACR], capture_output=True, text=True, check=False
        )
    assert f"Audience {ACR} is not a supported MSI token audience." in refused.stderr


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        ("vm list", ["web-01", "web-02", "sql-01", "build-agent", "jumpbox"]),
        ("vm list -g shop-prod", ["web-01", "web-02", "sql-01"]),
        ("vm list -d", ["web-01", "web-02", "sql-01", "build-agent", "jumpbox"]),
        ("vm show -g ci -n build-agent", ["build-agent"]),
        ("group list", ["ops", "ci", "shop-prod"]),
        ("account list-locations", ["eastus", "northeurope", "westeurope"]),
    ],
)
def test_az_lists_the_stand_ins_machines(words: str, printed: list[str], tmp_path: Path) -> None:
    done = inside_emulated_azure(tmp_path, str(AZ), *words.split(), "--output", "json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert [item["name"] for item in (content if isinstance(content, list) else [content])] == printed


def test_az_starts_a_machine_of_the_stand_in(tmp_path: Path) -> None:
    script = f"""
    {AZ} vm start -g ci -n build-agent
    {AZ} vm get-instance-view -g ci -n build-agent --query instanceView.statuses[1].code --output tsv
    {AZ} vm stop -g ci -n build-agent
    {AZ} vm get-instance-view -g ci -n build-agent --query instanceView.statuses[1].code --output tsv
    {AZ} vm show -g ci -n nobody
    """
    done = inside_emulated_azure(tmp_path, "bash", "-c", script)
    assert done.stdout.split() == ["PowerState/running", "PowerState/stopped"]
    assert "ResourceNotFound" in done.stderr
    assert done.returncode == 3


def test_the_login_that_az_has_from_cloud_shell_is_no_workaround_for_its_list(
    on_the_default_port: CloudShellEmulator,
) -> None:
    with on_the_default_port.as_environment():
        az("login", "--identity")
        chain = ChainedTokenCredential(CloudShellCredential(), AzureCliCredential())
        assert chain.get_token("https://vault.azure.net/.default").token
        with pytest.raises(ClientAuthenticationError, match=r"AudienceNotSupported.*az login"):
            chain.get_token(f"{ACR}/.default")
        advice = " ".join(run("doctor").stdout.split())
    assert "Cloud Shell's own sign-in, which is refused the same resources" in advice
    assert "Run 'az login' (the user that 'az account show' names is Cloud Shell's own sign-in): " in advice


def test_a_chain_reaches_a_login_of_ones_own(in_cloud_shell: CloudShellEmulator) -> None:
    az(*LOGIN)
    chain = ChainedTokenCredential(CloudShellCredential(), AzureCliCredential())
    for credential in (chain, DefaultCloudShellCredential()):
        mine = credential.get_token("https://vault.azure.net/.default").token
        assert mine == in_cloud_shell.issue("https://vault.azure.net")[0]
        claims = claims_of(credential.get_token(f"{ACR}/.default").token)
        assert (claims["aud"], claims["upn"]) == (ACR, SERVICE)


def test_so_do_the_commands(in_cloud_shell: CloudShellEmulator) -> None:
    az(*LOGIN)
    assert json.loads(run("token", "acr", "--fallback", "--output", "claims").stdout)["upn"] == SERVICE
    assert f"The Azure CLI is signed in as {SERVICE}: DefaultCloudShellCredential()" in run("doctor").stdout


def test_behind_the_broker_it_answers_for_what_cloud_shell_refuses(in_cloud_shell: CloudShellEmulator) -> None:
    az(*LOGIN)
    done = run("run", "--", sys.executable, "-c", SYNC, "https://vault.azure.net", ACR)
    tokens = json.loads(done.stdout)
    assert tokens[0] == in_cloud_shell.issue("https://vault.azure.net")[0]
    claims = claims_of(tokens[1])
    assert (claims["aud"], claims["upn"]) == (ACR, SERVICE)


def test_behind_the_broker_it_is_asked_by_itself_too(in_cloud_shell: CloudShellEmulator) -> None:
    az(*LOGIN)
    done = run("run", "--credential", "az", "--", sys.executable, "-c", SYNC, "https://vault.azure.net")
    for token in json.loads(done.stdout):
        assert claims_of(token)["upn"] == SERVICE


def test_the_broker_leaves_it_and_its_sign_in_as_they_are(on_the_default_port: CloudShellEmulator) -> None:
    with on_the_default_port.as_environment():
        az("login", "--identity")
        before = run("run", "--", str(AZ), "account", "show", "--output", "json")
        assert json.loads(before.stdout) == az("account", "show")
        words = ("account", "get-access-token", "--resource", "https://vault.azure.net", "--output", "json")
        done = run("run", "--", str(AZ), *words)
        assert json.loads(done.stdout)["accessToken"] == on_the_default_port.issue("https://vault.azure.net")[0]


def test_inside_run_its_identity_signs_it_in_and_its_own_login_brings_the_user_back(
    in_cloud_shell: CloudShellEmulator,
) -> None:
    az(*LOGIN)
    assert az("account", "show")["user"]["name"] == SERVICE
    # As in a container that was given the lines of serve: it has no variable that says it is in Cloud Shell.
    elsewhere = ("run", "--", "env", "--unset=ACC_CLOUD", str(AZ))
    done = run(*elsewhere, "login", "--identity")
    assert done.returncode == 0, done.stderr
    assert az("account", "show")["user"]["name"] == "systemAssignedIdentity"
    words = ("account", "get-access-token", "--resource", "https://vault.azure.net", "--output", "json")
    token = json.loads(run(*elsewhere, *words).stdout)["accessToken"]
    assert token == in_cloud_shell.issue("https://vault.azure.net")[0]
    az(*LOGIN)
    assert az("account", "show")["user"]["name"] == SERVICE
