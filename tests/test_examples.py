"""Every example runs, as a user would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .azurite import Azurite

EXAMPLES = Path(__file__).parent.parent / "examples"
MACHINES = "web-01 westeurope\nweb-02 westeurope\nsql-01 northeurope\nbuild-agent eastus\njumpbox westeurope\n"

OUTPUTS = {
    ("list_virtual_machines.py",): "jumpbox      ops             westeurope   Standard_B1s     Linux    stopped",
    ("list_virtual_machines_async.py",): MACHINES,
    ("chain_with_az_login.py",): "https://containerregistry.azure.net/.default: a token of 20 characters",
    ("rest_with_requests.py",): MACHINES,
    ("start_stop_by_tag.py", "stop", "--tag", "env=dev"): "stop ci/build-agent: would be done\nstop ops/jumpbox: would",
    ("start_stop_by_tag.py", "start", "--tag", "autostart=true", "--yes"): "start ci/build-agent: done\n",
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
def test_an_example_runs(arguments: tuple[str, ...], fake_az: str) -> None:
    assert len(fake_az) == 20
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert OUTPUTS[arguments] in done.stdout
    assert "eyJ" not in done.stdout


def test_the_storage_example_runs(azurite: Azurite) -> None:
    done = run("storage_blob.py", azurite.account_url, "--ca-file", azurite.ca_file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "greeting.txt 22\nHello from Cloud Shell\n"


def test_no_example_is_left_out() -> None:
    tested = {arguments[0] for arguments in OUTPUTS} | {"storage_blob.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested
    assert os.environ.get("MSI_ENDPOINT") is None
