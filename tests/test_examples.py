"""Every example runs, as a user would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from azure_cloudshell_credential.emulator import CloudShellEmulator

from .azurite import Azurite

EXAMPLES = Path(__file__).parent.parent / "examples"
MACHINES = "web-01 westeurope\nweb-02 westeurope\nsql-01 northeurope\nbuild-agent eastus\njumpbox westeurope\n"

EMULATED = f"Emulated: these machines are made up.\n{MACHINES}"
ACR = "https://containerregistry.azure.net/.default"

OUTPUTS = {
    ("list_virtual_machines.py", "--emulate"): "jumpbox westeurope Standard_B1s\n",
    ("list_virtual_machines_async.py", "--emulate"): EMULATED,
    ("rest_with_requests.py", "--emulate"): EMULATED,
    ("start_stop_by_tag.py", "stop", "--tag", "env=dev", "--emulate"): (
        "stop ci/build-agent: would be done\nstop ops/jumpbox: would"
    ),
    ("start_stop_by_tag.py", "start", "--tag", "autostart=true", "--yes", "--emulate"): "start ci/build-agent: done\n",
    ("chain_with_az_login.py",): f"{ACR}: a token of 20 characters",
    ("database_token.py",): "Azure SQL: attrs_before={1256: <",
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(EXAMPLES / arguments[0]), *arguments[1:]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", OUTPUTS, ids=" ".join)
def test_an_example_runs(arguments: tuple[str, ...], fake_az: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(fake_az) == 20
    # The developer's own sign-ins only: a virtual machine's managed identity would be waited for.
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "dev")
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert OUTPUTS[arguments] in done.stdout
    assert "eyJ" not in done.stdout


def test_the_storage_example_runs(in_cloud_shell: CloudShellEmulator, azurite: Azurite) -> None:
    done = run("storage_blob.py", azurite.account_url, "--ca-file", azurite.ca_file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "greeting.txt 22\nHello from Cloud Shell\n"


def test_a_tag_without_a_value_is_an_error() -> None:
    done = run("start_stop_by_tag.py", "stop", "--tag", "env", "--emulate")
    assert done.returncode == 2
    assert "--tag is NAME=VALUE, not 'env'" in done.stderr


def test_no_example_is_left_out_and_none_pretends() -> None:
    tested = {arguments[0] for arguments in OUTPUTS} | {"storage_blob.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "pip install azure-cloudshell-credential" in text.split('"""')[1], path.name
        # The emulator is imported only where somebody asks for it.
        assert not [line for line in text.splitlines() if line.startswith("from azure_cloudshell_credential.emulator")]
