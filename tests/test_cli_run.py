"""``azure-cloudshell run`` and ``serve``: unmodified programs of other people's, in several languages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import azure.identity
import pytest
import requests

from azure_cloudshell_credential.emulator import CloudShellEmulator

from .azurite import NODE_MODULES, Azurite, needs
from .command import COMMAND, run, without_coverage
from .conftest import claims_of

ARM = "https://management.azure.com"
SEARCH = "https://search.azure.com"
DENIED = "https://denied.example"
REFUSAL = "ERROR: AADSTS500011: no such resource"

# Each program knows nothing of this package. It prints what it gets for each scope: a token, or the error.
SYNC = """
import json, sys
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential
answers = []
for make in (DefaultAzureCredential, ManagedIdentityCredential):
    credential = make()
    for scope in sys.argv[1:]:
        try: answers.append(credential.get_token(scope + "/.default").token)
        except Exception as error: answers.append(f"{type(error).__name__}: {error}")
print(json.dumps(answers))
"""
AIO = """
import asyncio, json, sys
from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential
async def main():
    answers = []
    for make in (DefaultAzureCredential, ManagedIdentityCredential):
        async with make() as credential:
            for scope in sys.argv[1:]:
                try: answers.append((await credential.get_token(scope + "/.default")).token)
                except Exception as error: answers.append(f"{type(error).__name__}: {error}")
    print(json.dumps(answers))
asyncio.run(main())
"""
MSAL = """
import json, sys, msal, requests
client = msal.ManagedIdentityClient(msal.SystemAssignedManagedIdentity(), http_client=requests.Session())
answers = []
for resource in sys.argv[1:]:
    found = client.acquire_token_for_client(resource=resource)
    answers.append(found.get("access_token") or found["error"] + ": " + str(found.get("error_description")))
print(json.dumps(answers))
"""
JAVASCRIPT = """
const { DefaultAzureCredential, ManagedIdentityCredential } = require(process.env.IDENTITY);
(async () => {
  const answers = [];
  for (const credential of [new DefaultAzureCredential(), new ManagedIdentityCredential()]) {
    for (const resource of process.argv.slice(2)) {
      try { answers.push((await credential.getToken(resource + "/.default")).token); }
      catch (error) { answers.push(error.name + ": " + error.message); }
    }
  }
  console.log(JSON.stringify(answers));
})();
"""
RUST = """
import sys, obstore
from obstore.store import AzureStore
store = AzureStore("box", account_name="devstoreaccount1", endpoint=sys.argv[1],
                   client_options={"allow_invalid_certificates": True})
obstore.put(store, "hello", b"from Rust")
print(bytes(obstore.get(store, "hello").bytes()).decode())
"""


@pytest.fixture
def inside(in_cloud_shell: CloudShellEmulator, fake_az: str, monkeypatch: pytest.MonkeyPatch) -> CloudShellEmulator:
    """An emulated Cloud Shell that refuses search, with an az that is logged in; and a proxy that nobody serves."""
    in_cloud_shell.deny("search")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return in_cloud_shell


@pytest.fixture
def denying_az(tmp_path: Path, fake_az: str) -> None:
    """The fake az has no token for one resource."""
    program = tmp_path / "bin" / "az"
    first, rest = program.read_text().split("\n", 1)
    refusal = f"import sys\nif any({DENIED!r} in word for word in sys.argv): sys.exit({REFUSAL!r})"
    program.write_text(f"{first}\n{refusal}\n{rest}")


def answers(*arguments: str, **environment: str) -> list[str]:
    done = run("run", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def check(found: list[str], shell: CloudShellEmulator, of_az: str) -> None:
    """A token of Cloud Shell's, one of az's, and a refusal that says what both said; however many credentials asked."""
    assert len(found) % 3 == 0
    for index in range(0, len(found), 3):
        assert found[index] == shell.issue(ARM)[0]
        assert found[index + 1] == of_az
        assert "AudienceNotSupported" in found[index + 2]
        assert REFUSAL in found[index + 2]


@pytest.mark.parametrize("protocol", ["cloud-shell", "app-service", "imds"])
@pytest.mark.parametrize("program", [SYNC, AIO], ids=["sync", "aio"])
def test_azure_identity_for_python(
    inside: CloudShellEmulator, fake_az: str, denying_az: None, program: str, protocol: str
) -> None:
    command = [sys.executable, "-c", program, ARM, SEARCH, DENIED]
    found = answers("--protocol", protocol, "--", *command)
    if tuple(map(int, azure.identity.__version__.split(".")[:2])) < (1, 25):
        # It passes on the code alone.
        found = [text + " AudienceNotSupported " + REFUSAL if ": " in text else text for text in found]
    check(found, inside, fake_az)


@pytest.mark.parametrize("protocol", ["cloud-shell", "app-service"])
def test_azure_identity_for_javascript(
    inside: CloudShellEmulator, fake_az: str, denying_az: None, tmp_path: Path, protocol: str
) -> None:
    package = needs("@azure/identity")
    program = tmp_path / "app.cjs"
    program.write_text(JAVASCRIPT)
    found = answers(
        "--protocol", protocol, "--", "node", str(program), ARM, SEARCH, DENIED,
        IDENTITY=str(package), NODE_PATH=str(NODE_MODULES),
    )  # fmt: skip
    check(found, inside, fake_az)
    # So that a chain in JavaScript goes on, as with the real endpoint.
    assert found[5].startswith("CredentialUnavailableError")


@pytest.mark.parametrize("protocol", ["app-service", "imds"])
def test_msal_for_python(inside: CloudShellEmulator, fake_az: str, denying_az: None, protocol: str) -> None:
    command = [sys.executable, "-c", MSAL, ARM, SEARCH, DENIED]
    check(answers("--protocol", protocol, "--", *command), inside, fake_az)


@pytest.fixture
def box(in_cloud_shell: CloudShellEmulator, azurite: Azurite) -> str:
    """The URL of a real blob service that has a container, and checks tokens."""
    from azure.storage.blob import BlobServiceClient

    from azure_cloudshell_credential import CloudShellCredential

    with BlobServiceClient(azurite.account_url, CloudShellCredential(), connection_verify=azurite.ca_file) as service:
        if not service.get_container_client("box").exists():
            service.create_container("box")
    return azurite.account_url


def write_from_rust(url: str) -> subprocess.CompletedProcess[str]:
    return run("run", "--protocol", "app-service", "--", sys.executable, "-c", RUST, url)


def test_a_client_in_rust_writes_with_a_token_of_cloud_shells(box: str) -> None:
    done = write_from_rust(box)
    assert (done.returncode, done.stdout) == (0, "from Rust\n"), done.stderr


def test_a_client_in_rust_writes_with_a_token_of_the_next_credential(
    box: str, in_cloud_shell: CloudShellEmulator, fake_az: str, tmp_path: Path
) -> None:
    token = in_cloud_shell.issue("https://storage.azure.com")[0]
    in_cloud_shell.deny("storage")
    program = tmp_path / "bin" / "az"
    program.write_text(program.read_text().replace(fake_az, token))
    done = write_from_rust(box)
    assert (done.returncode, done.stdout) == (0, "from Rust\n"), done.stderr


def test_a_client_in_rust_reads_why_there_is_no_token(
    box: str, in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_cloud_shell.deny("storage")
    monkeypatch.setenv("PATH", os.devnull)
    done = write_from_rust(box)
    assert done.returncode != 0
    assert "AudienceNotSupported" in done.stderr
    assert "Azure CLI not found on path" in done.stderr


def test_outside_cloud_shell_the_same_lines_work(fake_az: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SYNC, ARM, SEARCH]
    assert answers("--credential", "az", "--", *command) == [fake_az] * 4


def test_the_status_the_output_and_the_input_are_the_commands() -> None:
    done = subprocess.run(
        [*COMMAND, "run", "--", "bash", "-c", "cat; echo $0 \"$@\" >&2; exit 7", "a", "--", "-b c"],
        input="in", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (7, "in", "a -- -b c\n")


def test_without_the_two_dashes_it_works_as_well() -> None:
    assert run("run", "echo", "hello").stdout == "hello\n"


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [([], 2, "A command is needed"), (["no-such-command"], 127, "There is no command"), (["/etc"], 126, "Cannot run")],
)
def test_what_cannot_be_run_is_said(command: list[str], status: int, said: str) -> None:
    done = run("run", "--", *command)
    assert done.returncode == status
    assert said in done.stderr


def test_a_killed_command_is_128_and_its_signal() -> None:
    assert run("run", "--", "bash", "-c", "kill -KILL $$").returncode == 137


def test_verbose_shows_a_line_for_each_request_and_no_secret(inside: CloudShellEmulator, fake_az: str) -> None:
    done = run(
        "run", "--verbose", "--", sys.executable, "-c", SYNC + "\nimport os; print(os.environ['MSI_ENDPOINT'])", ARM
    )
    token, endpoint = json.loads(done.stdout.splitlines()[0])[0], done.stdout.splitlines()[1]
    assert "serving tokens on port" in done.stderr
    assert f"{ARM}: a token for" in done.stderr
    assert token not in done.stderr
    assert endpoint.split("/")[3] not in done.stderr


class Running:
    """``run`` with a command that goes on until it is ended."""

    def __init__(self, *arguments: str) -> None:
        script = "trap 'echo caught $1; exit 5' TERM HUP QUIT; echo $$; while :; do sleep 0.05; done"
        self.process = subprocess.Popen(
            [*COMMAND, *arguments, "bash", "-c", script],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=without_coverage(),
        )
        assert self.process.stdout is not None
        self.child = int(self.process.stdout.readline())

    def child_is_gone(self) -> bool:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                state = Path(f"/proc/{self.child}/stat").read_text().rpartition(")")[2].split()[0]
            except FileNotFoundError:
                return True
            if state == "Z":
                return True
            time.sleep(0.02)
        return False


@pytest.fixture(params=[["run", "--"], ["emulate", "--port", "0", "--exec"]], ids=["run", "emulate"])
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    found = Running(*request.param)
    yield found
    found.process.kill()
    found.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_are_passed_on(running: Running, number: int) -> None:
    running.process.send_signal(number)
    output, _ = running.process.communicate(timeout=20)
    assert "caught" in output
    assert running.process.returncode == 5
    assert running.child_is_gone()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel of Linux ends the child")
def test_even_when_it_is_killed_no_process_is_left_behind(running: Running) -> None:
    running.process.kill()
    running.process.communicate(timeout=20)
    assert running.child_is_gone()


def test_a_command_that_crashes_leaves_no_server_behind() -> None:
    done = run("run", "--", "bash", "-c", "echo $MSI_ENDPOINT; kill -SEGV $$")
    assert done.returncode == 139
    with pytest.raises(requests.ConnectionError):
        requests.get(done.stdout.strip(), timeout=5)


def test_one_inside_another(inside: CloudShellEmulator, fake_az: str) -> None:
    command = [*COMMAND, "run", "--", sys.executable, "-c", SYNC, ARM, SEARCH]
    assert answers("--", *command) == [inside.issue(ARM)[0], fake_az] * 2
    assert len(inside.requests) <= 3


PARALLEL = """
import concurrent.futures, os, requests
def ask(_):
    form = {"resource": "https://vault.azure.net"}
    reply = requests.post(os.environ["MSI_ENDPOINT"], form, headers={"Metadata": "true"})
    return reply.json()["access_token"]
with concurrent.futures.ThreadPoolExecutor(10) as pool:
    assert len(set(pool.map(ask, range(10)))) == 1
"""


def test_200_requests_of_20_processes_make_one(inside: CloudShellEmulator, tmp_path: Path) -> None:
    inside.latency = 0.3
    program = tmp_path / "parallel.py"
    program.write_text(PARALLEL)
    line = f"for i in $(seq 20); do {sys.executable} {program} & done; wait"
    done = run("run", "--", "bash", "-c", line)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(inside.requests) == 1


class Serve:
    """``azure-cloudshell serve`` in a process of its own."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", "--shell", "bash", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stdout is not None
        self.lines: list[str] = []
        while line := self.process.stdout.readline():
            self.lines.append(line.strip())
            if "AZD_AUTH_KEY" in line:
                break

    def variables(self) -> dict[str, str]:
        words = [line.removeprefix("export ").partition("=") for line in self.lines if line.startswith("export ")]
        return {name: value for name, _, value in words}

    def stop(self) -> str:
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=20)
        assert self.process.returncode == 0
        return errors


@pytest.mark.parametrize("secret", [False, True])
def test_serve_says_who_it_acts_as_and_serves_until_it_is_stopped(inside: CloudShellEmulator, secret: bool) -> None:
    serve = Serve(*(["--path-secret"] if secret else []))
    url = serve.variables()["MSI_ENDPOINT"]
    assert (url.count("/") == 5) == secret
    reply = requests.post(url, {"resource": ARM}, headers={"Metadata": "true"}, timeout=10, proxies={"http": ""})
    assert claims_of(reply.json()["access_token"])["upn"] == "ada@contoso.example"
    errors = serve.stop()
    assert f"Serving tokens of ada@contoso.example in tenant {inside.identity.tenant_id}" in errors
    assert "They are REAL" in errors
    assert ("every program on this machine can get one" in errors) != secret
    assert "unset IDENTITY_ENDPOINT" in serve.lines


def test_serve_without_a_sign_in_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    done = run("serve", "--port", "0", AZURE_TOKEN_CREDENTIALS="dev")
    assert done.returncode == 1
    assert done.stderr.startswith("azure-cloudshell: There is no sign-in to serve. No credential has a token")
    assert done.stderr.count("\n") == 1


def test_serve_names_a_port_in_use(shell: CloudShellEmulator) -> None:
    done = run("serve", "--port", str(shell.port))
    assert done.returncode == 1
    assert "--port 0" in done.stderr


FACTORY = """
import time
from azure.core.credentials import AccessToken
class Credential:
    def get_token(self, *scopes, **options):
        return AccessToken("of-the-factory", int(time.time()) + 3600)
make = Credential
nothing = dict
def broken(): raise AttributeError("x")
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    # The package is found although the command runs elsewhere.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))


def test_a_credential_of_ones_own(factory: None) -> None:
    command = [sys.executable, "-c", SYNC, ARM]
    assert answers("--credential", "mine:make", "--", *command) == ["of-the-factory"] * 2


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("nonsense", 2, "--credential is az, default or MODULE:FACTORY, not 'nonsense'."),
        ("no_such_module:make", 1, "Cannot make a credential with no_such_module:make"),
        ("mine:broken", 1, "Cannot make a credential with mine:broken"),
        ("mine:nothing", 1, "mine:nothing() did not return a credential"),
    ],
)
def test_a_credential_that_cannot_be_made_is_one_line(factory: None, name: str, status: int, said: str) -> None:
    done = run("run", "--credential", name, "--", "true")
    assert done.returncode == status
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
