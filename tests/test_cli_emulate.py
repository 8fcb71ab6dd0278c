"""``azure-cloudshell emulate`` with all its options, and the clients it is for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .azurite import NODE_MODULES, needs
from .command import COMMAND, Emulate, run
from .conftest import ARM, claims_of


def test_who_is_signed_in_and_what_is_supported_can_be_said() -> None:
    who = ("--tenant", "t-1", "--user", "u@x")
    emulate = Emulate("--port", "0", *who, "--only-audience", "https://a.example", "--latency", "0.2")
    credential = CloudShellCredential(endpoint=emulate.variables["MSI_ENDPOINT"])
    start = time.monotonic()
    found = claims_of(credential.get_token("https://a.example/.default").token)
    assert time.monotonic() - start >= 0.2
    assert (found["tid"], found["upn"], emulate.variables["ACC_TID"]) == ("t-1", "u@x", "t-1")
    with pytest.raises(CredentialUnavailableError, match="AudienceNotSupported"):
        credential.get_token(ARM)
    emulate.stop(signal.SIGINT)


def test_exec_runs_a_command_inside_and_returns_its_status() -> None:
    script = f"{' '.join(COMMAND)} token -o claims | grep upn; echo $ACC_CLOUD; exit 7"
    done = run("emulate", "--port", "0", "--exec", "bash", "-c", script)
    assert done.returncode == 7
    assert done.stdout == '  "upn": "ada@contoso.example",\nPROD\n'
    assert done.stderr == ""


def test_exec_of_a_killed_command_is_128_and_its_signal() -> None:
    assert run("emulate", "--port", "0", "--exec", "bash", "-c", "kill -TERM $$").returncode == 143


def test_exec_of_nothing_is_an_error() -> None:
    assert run("emulate", "--port", "0", "--exec").returncode == 2
    done = run("emulate", "--port", "0", "--exec", "no-such-command")
    assert done.returncode == 127
    assert done.stderr == "azure-cloudshell: There is no command no-such-command.\n"


def test_exec_leaves_the_interrupt_to_the_command() -> None:
    script = "trap 'echo caught; exit 3' INT; echo ready; for i in $(seq 100); do sleep 0.1; done"
    with subprocess.Popen(
        [*COMMAND, "emulate", "--port", "0", "--exec", "bash", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors) == (3, "caught\n", "")


JAVASCRIPT = """
const { ManagedIdentityCredential } = require(process.env.IDENTITY);
(async () => {
  const credential = new ManagedIdentityCredential();
  const answers = [];
  for (const scope of ["https://management.azure.com/.default", "https://azconfig.io/.default"]) {
    try { answers.push((await credential.getToken(scope)).token); }
    catch (error) { answers.push(error.name + ": " + error.message); }
  }
  console.log(JSON.stringify(answers));
})();
"""


def test_azure_identity_for_javascript_gets_a_token(shell: CloudShellEmulator, tmp_path: Path) -> None:
    package = needs("@azure/identity")
    program = tmp_path / "program.cjs"
    program.write_text(JAVASCRIPT)
    done = subprocess.run(
        ["node", str(program)],
        env={**os.environ, **shell.environment, "IDENTITY": str(package), "NODE_PATH": str(NODE_MODULES)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    token, error = json.loads(done.stdout)
    assert token == shell.issue("https://management.azure.com")[0]
    assert error.startswith("CredentialUnavailableError")
    assert "AudienceNotSupported" in error


def test_it_serves_whatever_the_python(tmp_path: Path) -> None:
    done = run("emulate", "--port", "0", "--exec", sys.executable, "-c", "import os; print(os.environ['MSI_ENDPOINT'])")
    assert done.stdout.startswith("http://localhost:")


@pytest.mark.parametrize("options", [[], ["--with-azure"]])
def test_demo_inside_never_asks_azure_itself(options: list[str]) -> None:
    words = [sys.executable, "-m", "azure_cloudshell_credential", "demo"]
    done = run("emulate", "--port", "0", *options, "--exec", *words, HTTPS_PROXY="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert "build-agent" in done.stdout
    refused = run("emulate", "--port", "0", *options, "--exec", *words, "--subscription", "nope")
    assert refused.returncode == 1
    complaints = [line for line in refused.stderr.splitlines() if line.startswith("azure-cloudshell: Azure")]
    assert len(complaints) == 1
    assert refused.stderr.count("SubscriptionNotFound") == 1
