"""``azure-cloudshell emulate`` with all its options, and the clients it is for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .azurite import NODE_MODULES, needs
from .conftest import ARM, claims_of
from .test_cli import COMMAND, Emulate, run


def test_who_is_signed_in_and_what_is_supported_can_be_said() -> None:
    who = ("--tenant", "t-1", "--user", "u@x")
    emulate = Emulate("--port", "0", *who, "--audience", "https://a.example", "--latency", "0.2")
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
    assert done.stderr == "azure-cloudshell: Cannot run no-such-command: No such file or directory.\n"


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


FACTORY = """
import time
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

class Credential:
    def get_token(self, *scopes, **kwargs):
        if "vault" in scopes[0]:
            raise ClientAuthenticationError(message="AADSTS50076: mfa, please")
        if "azconfig" in scopes[0]:
            raise ClientAuthenticationError(message="AADSTS500011: The resource principal was not found")
        return AccessToken("real-" + scopes[0], int(time.time()) + 1234)

make = Credential
broken = lambda: 7
"""


def test_credential_serves_another_credentials_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    emulate = Emulate("--port", "0", "--credential", "mine:make")
    url = emulate.variables["MSI_ENDPOINT"]

    def ask(resource: str) -> Any:
        return requests.post(url, {"resource": resource}, headers={"Metadata": "true"}, timeout=5).json()

    reply = ask("https://anything.example/")
    assert reply["access_token"] == "real-https://anything.example//.default"
    assert 1230 <= int(reply["expires_on"]) - time.time() <= 1234
    assert ask("https://vault.azure.net")["error"] == {
        "code": "invalid_request",
        "message": "AADSTS50076: mfa, please",
    }
    assert ask("https://azconfig.io/")["error"]["code"] == "AudienceNotSupported"
    token = CloudShellCredential(endpoint=url).get_token(ARM)
    assert token.token == "real-https://management.azure.com/.default"
    _, errors = emulate.stop(signal.SIGINT)
    assert "Its tokens are REAL" in errors
    assert "real-" not in errors


def test_credential_az_serves_the_login_of_az(fake_az: str) -> None:
    emulate = Emulate("--port", "0", "--credential", "az")
    assert CloudShellCredential(endpoint=emulate.variables["MSI_ENDPOINT"]).get_token(ARM).token == fake_az
    emulate.stop(signal.SIGINT)


def test_credential_default_serves_the_default_chain(fake_az: str) -> None:
    emulate = Emulate("--port", "0", "--credential", "default")
    assert CloudShellCredential(endpoint=emulate.variables["MSI_ENDPOINT"]).get_token(ARM).token == fake_az
    emulate.stop(signal.SIGINT)


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("nonsense", 2, "--credential is az, default or MODULE:FACTORY, not 'nonsense'."),
        ("no_such_module:make", 1, "Cannot make a credential with no_such_module:make"),
        ("json:nothing", 1, "Cannot make a credential with json:nothing"),
        ("mine:broken", 1, "What mine:broken() returns is no credential"),
    ],
)
def test_a_credential_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, status: int, message: str
) -> None:
    (tmp_path / "mine.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    done = run("emulate", "--port", "0", "--credential", name)
    assert done.returncode == status
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_credential_without_a_token_at_the_moment_is_told() -> None:
    emulate = Emulate("--port", "0", "--credential", "az")
    with pytest.raises(CredentialUnavailableError):
        CloudShellCredential(endpoint=emulate.variables["MSI_ENDPOINT"], retry_total=0).get_token(ARM)
    _, errors = emulate.stop(signal.SIGINT)
    assert "The credential has no token for Azure Resource Manager at the moment" in errors


class Given:
    """A credential for the emulator in this process."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        token: AccessToken = self.outcome
        return token


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ClientAuthenticationError(message="no\nway eyJhbGciOi.eyJhdWQiOi.x"), "no way [redacted]"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_failures_of_the_credential_take_the_form_of_the_endpoint(error: Exception, message: str) -> None:
    with CloudShellEmulator(audiences=None, credential=Given(error)) as shell:
        reply = requests.post(shell.endpoint, {"resource": "r"}, headers={"Metadata": "true"}, timeout=5)
    assert reply.status_code == 400
    assert reply.json() == {"error": {"code": "invalid_request", "message": message}}


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
