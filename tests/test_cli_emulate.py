"""``azure-cloudshell emulate`` with all its options, and the clients it is for."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential.broker import CloudShellBroker
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .azurite import NODE_MODULES, needs
from .command import COMMAND, Emulate, run
from .conftest import ARM, VAULT, claims_of
from .developer import sign_in_to_shared_cache


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


def test_a_signal_that_ends_the_command_is_between_it_and_its_parent() -> None:
    assert run("emulate", "--port", "0", "--exec", "bash", "-c", "kill -TERM $$").returncode == -signal.SIGTERM


def test_exec_of_nothing_is_an_error() -> None:
    assert run("emulate", "--port", "0", "--exec").returncode == 2
    done = run("emulate", "--port", "0", "--exec", "no-such-command")
    assert done.returncode == 127
    assert done.stderr == "azure-cloudshell: no-such-command: command not found\n"


def test_exec_leaves_the_interrupt_to_the_command() -> None:
    # Not a shell's trap: bash itself now and then loses an interrupt that comes while it forks.
    program = (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]); print('ready', flush=True); "
        "signal.sigwait([signal.SIGINT]); print('caught'); raise SystemExit(3)"
    )
    with subprocess.Popen(
        [*COMMAND, "emulate", "--port", "0", "--exec", sys.executable, "-c", program],
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


@pytest.mark.clients
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


def test_an_example_inside_lists_the_machines_of_a_made_up_company() -> None:
    example = Path(__file__).parent.parent / "examples" / "list_virtual_machines.py"
    inside = ("emulate", "--port", "0", "--with-azure", "--exec", sys.executable, str(example))
    done = run(*inside, HTTPS_PROXY="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[3] == "build-agent eastus Standard_F4s_v2"


@pytest.mark.parametrize("option", ["--only-audience", "--audience", "--deny"])
def test_audiences_go_by_their_short_names_and_typing_errors_are_told(option: str) -> None:
    words = ("emulate", "--port", "0", option)
    script = f"for name in arm vault; do {' '.join(COMMAND)} token $name >/dev/null 2>&1; echo $?; done"
    done = run(*words, "keyvault", "--exec", "bash", "-c", script)
    expected = {"--only-audience": ["1", "0"], "--audience": ["0", "0"], "--deny": ["0", "1"]}
    assert done.stdout.split() == expected[option]
    wrong = run(*words, "vualt", "--exec", "true")
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "azure-cloudshell: 'vualt' is not a known resource. Did you mean 'vault'? "
        "Or give a URI, or an application ID.\n",
    )


def test_faults_can_be_tried_from_a_shell() -> None:
    script = f"{' '.join(COMMAND)} token -o claims | grep -c upn"
    twice = run("emulate", "--port", "0", "--fault", "portal-timeout:2", "--exec", "bash", "-c", script)
    assert (twice.returncode, twice.stdout) == (0, "1\n")
    always = run("emulate", "--port", "0", "--fault", "garbage", "--exec", *COMMAND, "token")
    assert always.returncode == 1
    assert "azure-cloudshell: " in always.stderr
    both = ("--fault", "interaction-required:1", "--fault", "garbage")
    script = f"for i in 1 2; do {' '.join(COMMAND)} token; done"
    errors = run("emulate", "--port", "0", *both, "--exec", "bash", "-c", script).stderr
    assert errors.index("AADSTS50076") < errors.index("not JSON")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("protal-timeout", "'protal-timeout' is not a fault. Did you mean 'portal-timeout'?"),
        ("xyz", "'xyz' is not a fault. Known are: portal-timeout, "),
        ("hang:", "'hang:' is not NAME:COUNT, such as hang:2."),
        ("hang:0", "'hang:0' is not NAME:COUNT, such as hang:2."),
        ("hang:x", "'hang:x' is not NAME:COUNT, such as hang:2."),
    ],
)
def test_an_unknown_fault_is_told_with_what_was_meant(fault: str, error: str) -> None:
    done = run("emulate", "--port", "0", "--fault", fault, "--exec", "true")
    assert done.returncode == 2
    assert done.stderr.startswith(f"azure-cloudshell: {error}")


def test_az_can_have_another_user(tmp_path: Path) -> None:
    real = tmp_path / "az"
    real.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    real.chmod(0o755)
    script = f"az account show; {' '.join(COMMAND)} token acr --fallback -o claims"
    words = ("--port", "0", "--az-login", "linus@contoso.example", "--exec", "bash", "-c", script)
    done = run("emulate", *words, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    account, _, claims = done.stdout.partition("\n")
    assert json.loads(account)["user"]["name"] == json.loads(claims)["upn"] == "linus@contoso.example"
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("separator", [[], ["--"], ["--exec"], ["--exec", "--"]])
def test_the_command_may_follow_as_it_does_after_run(separator: list[str]) -> None:
    done = run("emulate", "--port", "0", *separator, "printf", "%s ", "--port", "--", "x")
    assert (done.returncode, done.stdout, done.stderr) == (0, "--port -- x ", "")


def test_a_service_principal_of_the_developers_does_not_reach_the_command() -> None:
    theirs = {"AZURE_CLIENT_ID": "i", "AZURE_CLIENT_SECRET": "s", "IDENTITY_ENDPOINT": "x"}
    done = run("emulate", "--port", "0", "--", "env", **theirs)
    assert not re.search("^(AZURE_CLIENT|IDENTITY)_", done.stdout, re.MULTILINE)
    assert "MSI_ENDPOINT=" in done.stdout


def test_a_broker_that_is_served_already_does_not_reach_the_command(shell: CloudShellEmulator) -> None:
    with CloudShellBroker(CloudShellCredential(endpoint=shell.endpoint)) as broker:
        theirs = {**broker.environment, **dict.fromkeys(broker.removed, "x")}
    done = run("emulate", "--port", "0", "--", "env", **theirs)
    given = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert given.keys() & theirs.keys() == {"MSI_ENDPOINT"}
    assert given["MSI_ENDPOINT"] != theirs["MSI_ENDPOINT"]


NOBODY_ELSE = """
import sys
from azure.core.exceptions import ClientAuthenticationError
from azure_cloudshell_credential import DefaultCloudShellCredential
try:
    print(DefaultCloudShellCredential().get_token("https://vault.azure.net/.default").token)
except ClientAuthenticationError:
    sys.exit(3)
"""

PLACES = ["shared cache", "az", "azd", "pwsh"]


def sign_in_the_developer(place: str, home: Path) -> dict[str, str]:
    """A home in which a developer is signed in, and the variables that lead there."""
    programs = home / "bin"
    programs.mkdir()
    if place == "shared cache":
        sign_in_to_shared_cache(home, VAULT)
    else:
        # Each looks for its sign-in where the real one does.
        folder = {
            "az": '"${AZURE_CONFIG_DIR:-$HOME/.azure}/azureProfile.json"',
            "azd": '"${AZD_CONFIG_DIR:-$HOME/.azd}/auth.json"',
            "pwsh": '"$HOME/.Azure/AzureRmContext.json"',
        }[place]
        printed = {
            "az": '{"accessToken": "the-developers-own", "expires_on": 32472144000, "tokenType": "Bearer"}',
            "azd": '{"token": "the-developers-own", "expiresOn": "2999-01-01T00:00:00Z"}',
            "pwsh": "azsdk%the-developers-own%32472144000",
        }[place]
        (programs / place).write_text(f"#!/bin/sh\ngrep -qs linus {folder} || exit 1\necho '{printed}'\n")
        (programs / place).chmod(0o755)
        for name in (".azure/azureProfile.json", ".azd/auth.json", ".Azure/AzureRmContext.json"):
            (home / name).parent.mkdir(exist_ok=True)
            (home / name).write_text("linus")
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {"HOME": str(home), "PATH": path, "AZURE_TOKEN_CREDENTIALS": "dev"}


@pytest.mark.parametrize("options", [(), ("--with-azure",)], ids=["plain", "with azure"])
@pytest.mark.parametrize("place", PLACES)
def test_a_command_finds_no_sign_in_of_the_developers(place: str, options: tuple[str, ...], tmp_path: Path) -> None:
    words = ("emulate", "--port", "0", *options, "--deny", "vault", "--", sys.executable, "-c", NOBODY_ELSE)
    done = run(*words, **sign_in_the_developer(place, tmp_path))
    assert (done.returncode, done.stdout, "Incomplete environment" in done.stderr) == (3, "", False), done.stderr


@pytest.mark.parametrize("place", PLACES[1:])
def test_a_command_may_be_left_the_developers_own(place: str, tmp_path: Path) -> None:
    words = ("emulate", "--port", "0", "--own-sign-in", "--deny", "vault", "--", sys.executable, "-c", NOBODY_ELSE)
    done = run(*words, **sign_in_the_developer(place, tmp_path))
    assert (done.returncode, done.stdout) == (0, "the-developers-own\n"), done.stderr


def test_only_stand_ins_for_powershell_are_put_on_path(tmp_path: Path) -> None:
    variables = sign_in_the_developer("az", tmp_path)
    done = run("emulate", "--port", "0", "--", "sh", "-c", "command -v az; echo $PATH", **variables)
    assert done.stdout == f"{tmp_path}/bin/az\n{variables['PATH']}\n"
    (tmp_path / "bin" / "pwsh").symlink_to(tmp_path / "bin" / "az")
    done = run("emulate", "--port", "0", "--", "sh", "-c", "command -v az; command -v pwsh", **variables)
    first, second = done.stdout.split()
    assert first == f"{tmp_path}/bin/az"
    assert not second.startswith(str(tmp_path / "bin"))


@pytest.mark.parametrize("options", [["--with-azure"], ["--az-login", "grace@contoso.example"]])
def test_the_developers_own_sign_ins_and_made_up_ones_exclude_each_other(options: list[str]) -> None:
    done = run("emulate", "--port", "0", "--own-sign-in", *options, "--", "true")
    assert done.returncode == 2
    assert done.stderr.startswith("azure-cloudshell: --own-sign-in cannot be combined with --with-azure or --az-login.")


def test_with_azure_a_command_may_be_powershell_itself(tmp_path: Path) -> None:
    (tmp_path / "pwsh").write_text('#!/bin/sh\necho "the real one"\n')
    (tmp_path / "pwsh").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = run("emulate", "--port", "0", "--with-azure", "--", "pwsh", "-File", "x.ps1", PATH=path)
    assert done.stdout == "the real one\n"


def test_with_azure_the_made_up_az_can_still_be_signed_in() -> None:
    words = ("--port", "0", "--with-azure", "--az-login", "linus@contoso.example", "--", "az", "account", "show")
    assert json.loads(run("emulate", *words).stdout)["user"]["name"] == "linus@contoso.example"


def test_lines_for_another_shell_unset_what_would_lead_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSI_SECRET", "of-another-service")
    with subprocess.Popen(
        [*COMMAND, "emulate", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "unset MSI_SECRET\n"
        assert process.stdout.readline().startswith("export MSI_ENDPOINT=http://localhost:")
        process.terminate()


def test_a_port_that_somebody_has_under_the_other_name_of_localhost_is_taken() -> None:
    with socket.socket(socket.AF_INET6) as squatter:
        try:
            squatter.bind(("::1", 0))
        except OSError:
            pytest.skip("needs ::1")
        squatter.listen()
        port = squatter.getsockname()[1]
        done = run("emulate", "--port", str(port), "--", "true")
    assert (done.returncode, done.stderr.startswith(f"azure-cloudshell: Port {port} is in use.")) == (1, True)


def test_it_ends_with_its_command() -> None:
    done = run("emulate", "--port", "0", "--with-azure", "--", "env")
    variables = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    deadline = time.monotonic() + 10
    while Path(variables["SSL_CERT_FILE"]).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(OSError, match="refused"):
        requests.get(variables["MSI_ENDPOINT"], timeout=5)


def test_a_request_cannot_write_to_the_terminal() -> None:
    emulate = Emulate("--port", "0")
    hostile = "x\x1b]0;OWNED\x07\nStopped.\u202e" + "y" * 5000
    requests.post(emulate.variables["MSI_ENDPOINT"], {"resource": hostile}, headers={"Metadata": "true"}, timeout=5)
    _, errors = emulate.stop(signal.SIGINT)
    assert "\x1b" not in errors
    assert "\u202e" not in errors
    (line,) = [line for line in errors.splitlines() if "POST /oauth2/token" in line]
    assert len(line) < 500


def test_what_was_refused_is_listed_at_the_end() -> None:
    fetch = "import requests\ntry: requests.get('https://pypi.org')\nexcept OSError: pass"
    done = run("emulate", "--port", "0", "--with-azure", "--exec", sys.executable, "-c", fetch)
    first, last = done.stderr.splitlines()
    assert first.endswith("Refused: pypi.org:443 is not emulated, and nothing leaves this machine")
    assert last == "Refused, since nothing leaves this machine: pypi.org:443"
