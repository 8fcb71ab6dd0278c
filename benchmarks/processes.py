"""What starts a process, and what is in its memory afterwards."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .measuring import Row, interleaved, ratio

COMMAND = str(Path(sys.executable).with_name("azure-cloudshell"))
RECIPE = """response=$(curl $MSI_ENDPOINT --data "resource=https://management.azure.com/" -H Metadata:true -s)
echo $response | $PYTHON -c 'import sys, json; print (json.load(sys.stdin)["access_token"])'"""
PROFILE = {
    "subscriptions": [
        {
            "id": "00000000-1111-4222-8333-444444444444",
            "name": "Contoso",
            "state": "Enabled",
            "user": {"name": "ada@contoso.example", "type": "user"},
            "isDefault": True,
            "tenantId": "11111111-aaaa-4bbb-8ccc-222222222222",
            "environmentName": "AzureCloud",
        }
    ]
}
"""What ``az account show`` reads, and all it needs: it asks nobody."""

FIRST = "from {} import {} as C; C().get_token('https://management.azure.com/.default')"
IMPORT = (
    "import azure.mgmt.compute, time; start = time.perf_counter();"
    "from azure_cloudshell_credential import CloudShellCredential; print(time.perf_counter() - start)"
)
MEMORY = """
import tracemalloc
from {} import {} as C
credential = C()
length = len(credential.get_token("https://first.example/.default").token)
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
for index in range(1000):
    credential.get_token(f"https://resource-{{index}}.example/.default")
print((tracemalloc.get_traced_memory()[0] - before) / 1000 / length)
"""
OURS = ("azure_cloudshell_credential", "CloudShellCredential")
THEIRS = ("azure.identity", "ManagedIdentityCredential")


def process(*arguments: str, **variables: str) -> Callable[[], Any]:
    """Run a program to its end."""
    environment = {**os.environ, "PYTHON": sys.executable, **variables}
    return lambda: subprocess.run(
        arguments, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )


def printed(code: str) -> float:
    """The number that a Python program prints."""
    return float(process(sys.executable, "-c", code)().stdout)


def processes(rounds: int) -> list[Row]:
    """The first token, the import, and the command."""
    ours_s, theirs_s = interleaved(
        rounds, *(process(sys.executable, "-c", FIRST.format(*which)) for which in (OURS, THEIRS))
    )
    value, spread = ratio(ours_s, theirs_s)
    label = ("First token in a Python process", "azure-identity's time")
    rows = [Row("first token in a process: ours / azure-identity", spread, "at most 0.55", value <= 0.55, value, label)]

    value = statistics.median(printed(IMPORT) for _ in range(rounds)) * 1000
    rows.append(Row("import, after azure.mgmt.compute", f"{value:.1f} ms", "under 5 ms", value < 5))

    rows.append(_command_to(rounds, "token", 1.3, "the documented curl recipe", process("bash", "-c", RECIPE)))
    with TemporaryDirectory() as folder:
        (Path(folder) / "azureProfile.json").write_text(json.dumps(PROFILE), encoding="utf-8")
        # Without telemetry, and without the index of its help, which it would download the first time.
        offline = {"AZURE_CORE_COLLECT_TELEMETRY": "no", "HTTPS_PROXY": "http://127.0.0.1:9"}
        show = process("az", "account", "show", AZURE_CONFIG_DIR=folder, **offline)
        rows.append(_command_to(rounds, "token", 0.2, "az account show", show))
        rows.append(_command_to(rounds, "run -- true", 0.4, "az account show", show))
    return rows


def _command_to(rounds: int, words: str, bar: float, other: str, run_other: Callable[[], Any]) -> Row:
    what, reached = f"azure-cloudshell {words} / {other}", f"at most {bar}"
    program = "az" if other.startswith("az ") else "curl"
    if shutil.which(program) is None:
        return Row(what, f"{program} is not installed", reached, None)
    run_other()
    value, spread = ratio(*interleaved(rounds, process(COMMAND, *words.split()), run_other))
    return Row(what, spread, reached, value <= bar, value, (f"azure-cloudshell {words}", f"{other}'s time"))


def memory() -> list[Row]:
    """What a token takes beside itself. The emulator has to support any audience."""
    ours, theirs = (printed(MEMORY.format(*which)) for which in (OURS, THEIRS))
    result = f"{ours:.1f} times its token (azure-identity: {theirs:.1f})"
    return [Row("memory per cached resource, at 1,000", result, "less than azure-identity's", ours < theirs)]
