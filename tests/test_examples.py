"""Every example runs, as a user would run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from . import outside
from .azurite import Azurite
from .command import COMMAND

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent / "examples"
MACHINES = "web-01 westeurope\nweb-02 westeurope\nsql-01 northeurope\nbuild-agent eastus\njumpbox westeurope\n"
ACR = "https://containerregistry.azure.net/.default"

OUTPUTS = {
    ("list_virtual_machines.py",): "jumpbox westeurope Standard_B1s\n",
    ("list_virtual_machines_async.py",): MACHINES,
    ("rest_with_requests.py",): MACHINES,
    ("start_stop_by_tag.py", "stop", "--tag", "env=dev"): (
        "stop ci/build-agent: would be done\nstop ops/jumpbox: would"
    ),
    ("start_stop_by_tag.py", "start", "--tag", "autostart=true", "--yes"): "start ci/build-agent: done\n",
    ("chain_with_az_login.py",): f"{ACR}: a token of ",
    ("database_token.py",): "Azure SQL: attrs_before={1256: <",
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an example, unmodified, in the sealed emulator; az has another user. It asks for nothing outside."""
    emulate = [*COMMAND, "emulate", "--port", "0", "--with-azure", "--az-login", "grace@contoso.example", "--"]
    script = [sys.executable, "-W", "error::RuntimeWarning", str(EXAMPLES / arguments[0]), *arguments[1:]]
    with TemporaryDirectory() as folder:
        record = Path(folder) / "record"
        # Azurite's port is not in a namespace of its own.
        is_alone = outside.why_not() is None and not arguments[-1].endswith("ca.pem")
        command = outside.inside(record, *emulate, *script) if is_alone else [*emulate, *script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert not is_alone or json.loads(record.read_text()) == []
    return done


@pytest.mark.parametrize("arguments", OUTPUTS, ids=" ".join)
def test_an_example_runs(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert OUTPUTS[arguments] in done.stdout
    assert "eyJ" not in done.stdout


def test_the_storage_example_runs(azurite: Azurite) -> None:
    done = run("storage_blob.py", azurite.account_url, "--ca-file", azurite.ca_file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "greeting.txt 22\nHello from Cloud Shell\n"


def test_a_tag_without_a_value_is_an_error() -> None:
    done = run("start_stop_by_tag.py", "stop", "--tag", "env")
    assert done.returncode == 2
    assert "--tag is NAME=VALUE, not 'env'" in done.stderr


def test_no_example_is_left_out_and_none_knows_of_the_emulator() -> None:
    tested = {arguments[0] for arguments in OUTPUTS} | {"storage_blob.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "pip install azure-cloudshell-credential" in text.split('"""')[1], path.name
        assert "azure_cloudshell_credential.emulator" not in text
        assert "base_url" not in text
