"""Unmodified programs in ``emulate --with-azure``: each lists made-up machines, and none of them leaves the machine.

The examples are run the same way, in ``test_examples``.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from . import outside
from .azurite import NODE_MODULES, needs
from .command import COMMAND

ROOT = Path(__file__).parent.parent
AZ = ROOT / ".az" / "bin" / "az"
SUBSCRIPTION = "00000000-1111-4222-8333-444444444444"
MACHINES = f"https://management.azure.com/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/virtualMachines"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(outside.why_not()), reason=str(outside.why_not()))]

REST = f"""
import requests
from azure_cloudshell_credential import CloudShellAuth
page = requests.get("{MACHINES}?api-version=2024-07-01", auth=CloudShellAuth(), timeout=10).json()
print(*(machine["name"] for machine in page["value"]))
"""
AIO = f"""
import asyncio
from azure.mgmt.compute.aio import ComputeManagementClient
from azure_cloudshell_credential.aio import DefaultCloudShellCredential
async def main():
    async with DefaultCloudShellCredential() as credential, ComputeManagementClient(credential, "{SUBSCRIPTION}") as it:
        print(*[machine.name async for machine in it.virtual_machines.list_all()])
    await asyncio.sleep(0.25)
asyncio.run(main())
"""
IDENTITY = f"""
from azure.identity import DefaultAzureCredential
from azure.mgmt.compute import ComputeManagementClient
with DefaultAzureCredential() as credential, ComputeManagementClient(credential, "{SUBSCRIPTION}") as client:
    print(*(machine.name for machine in client.virtual_machines.list_all()))
"""
CURL = f"""
{" ".join(COMMAND)} token --output header | curl -sS --fail -H @- "{MACHINES}?api-version=2024-07-01"
"""
JAVASCRIPT = f"""
const {{ DefaultAzureCredential }} = require("@azure/identity");
const {{ ComputeManagementClient }} = require("@azure/arm-compute");
(async () => {{
  const client = new ComputeManagementClient(new DefaultAzureCredential(), "{SUBSCRIPTION}");
  for await (const machine of client.virtualMachines.listAll()) console.log(machine.name);
}})();
"""


def run(folder: Path, *command: str, options: tuple[str, ...] = ("--az-login", "grace@contoso.example")) -> str:
    """What a command prints in the emulated Azure, in a namespace of its own, having asked for nothing outside."""
    emulate = [*COMMAND, "emulate", "--with-azure", *options, "--"]
    done = subprocess.run(
        outside.inside(folder / "record", *emulate, *command), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "record").read_text()) == []
    return done.stdout


def first_script() -> str:
    """The README's first block of Python."""
    match = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert match is not None
    return match[1]


PYTHON = {"README": first_script(), "requests": REST, "aio": AIO, "azure-identity": IDENTITY}


def test_the_recorder_sees_what_leaves(tmp_path: Path) -> None:
    program = "import socket; socket.create_connection(('93.184.215.14', 443)); socket.getaddrinfo('example.com', 80)"
    done = subprocess.run(
        outside.inside(tmp_path / "record", sys.executable, "-c", program), capture_output=True, timeout=60, check=False
    )
    assert done.returncode != 0
    # A thread each writes them down, in no order.
    assert {"93.184.215.14:443", "look-up of example.com"} <= set(json.loads((tmp_path / "record").read_text()))


@pytest.mark.parametrize("name", PYTHON)
def test_a_script_of_python(name: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(PYTHON[name])
    printed = run(tmp_path, sys.executable, str(script))
    assert "web-01" in printed


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_a_script_of_curl(tmp_path: Path) -> None:
    printed = run(tmp_path, "bash", "-c", CURL)
    assert [machine["name"] for machine in json.loads(printed)["value"]] == ["web-01", "web-02"]


@pytest.mark.clients
def test_the_sdk_for_javascript(tmp_path: Path) -> None:
    needs("@azure/arm-compute")
    needs("@azure/identity")
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    (tmp_path / "script.cjs").write_text(JAVASCRIPT)
    printed = run(tmp_path, "node", str(tmp_path / "script.cjs"))
    assert printed.split() == ["web-01", "web-02", "sql-01", "build-agent", "jumpbox"]


@pytest.mark.clients
@pytest.mark.skipif(not AZ.exists(), reason="needs the Azure CLI: make clients")
@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (f"{AZ} vm list --query [].name --output tsv", "web-01\nweb-02\nsql-01\nbuild-agent\njumpbox\n"),
        (f"{AZ} account show --query user.cloudShellID", "true\n"),
        (f"{AZ} rest --url /subscriptions?api-version=2022-12-01 --query value[1].state --output tsv", "Enabled\n"),
    ],
    ids=["vm list", "account show", "rest"],
)
def test_the_azure_cli_in_cloud_shell_mode(words: str, printed: str, tmp_path: Path) -> None:
    assert run(tmp_path, *words.split(), options=()) == printed
