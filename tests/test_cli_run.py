"""``azure-cloudshell run`` and ``serve``: unmodified programs in several languages, in the default environment."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from azure_cloudshell_credential._cli import _private_files
from azure_cloudshell_credential.broker import CloudShellBroker
from azure_cloudshell_credential.emulator import CloudShellEmulator, Identity

from .azurite import NODE_MODULES, Azurite, needs
from .command import COMMAND, eventually, run
from .conftest import ON_PORT_50342, claims_of, in_threads
from .squatter import SQUAT, has_ipv6, squatter

__all__ = ["squatter"]

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
const clientId = process.env.CLIENT_ID;
if (clientId) process.env.AZURE_CLIENT_ID = clientId;
(async () => {
  const answers = [];
  const options = clientId ? [{ clientId }] : [];
  for (const credential of [new DefaultAzureCredential(), new ManagedIdentityCredential(...options)]) {
    for (const resource of process.argv.slice(2)) {
      try { answers.push((await credential.getToken(resource + "/.default")).token); }
      catch (error) { answers.push(error.name + ": " + error.message); }
    }
  }
  console.log(JSON.stringify(answers));
})();
"""
MSAL_NODE = """
const { ManagedIdentityApplication } = require(process.env.MSAL);
(async () => {
  const answers = [];
  for (const resource of process.argv.slice(2)) {
    try { answers.push((await new ManagedIdentityApplication().acquireToken({ resource })).accessToken); }
    catch (error) { answers.push(error.name + ": " + error.message); }
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


@pytest.mark.parametrize("program", [SYNC, AIO], ids=["sync", "aio"])
def test_azure_identity_for_python(inside: CloudShellEmulator, fake_az: str, denying_az: None, program: str) -> None:
    found = answers("--", sys.executable, "-c", program, ARM, SEARCH, DENIED)
    check(found, inside, fake_az)


@pytest.mark.clients
@pytest.mark.parametrize("client_id", ["", "0f0f0f0f-0000-4000-8000-000000000000"], ids=["", "client_id"])
def test_azure_identity_for_javascript(
    inside: CloudShellEmulator, fake_az: str, denying_az: None, tmp_path: Path, client_id: str
) -> None:
    package = needs("@azure/identity")
    program = tmp_path / "app.cjs"
    program.write_text(JAVASCRIPT)
    found = answers(
        "--", "node", str(program), ARM, SEARCH, DENIED,
        IDENTITY=str(package), NODE_PATH=str(NODE_MODULES), CLIENT_ID=client_id,
    )  # fmt: skip
    check(found, inside, fake_az)


def test_a_client_id_makes_no_difference_to_azure_identity_for_python(
    inside: CloudShellEmulator, fake_az: str, denying_az: None
) -> None:
    program = SYNC.replace("ManagedIdentityCredential)", "lambda: ManagedIdentityCredential(client_id='0f0f'))")
    found = answers("--", sys.executable, "-c", program, ARM, SEARCH, DENIED, AZURE_CLIENT_ID="0f0f")
    check(found, inside, fake_az)


def test_msal_for_python(inside: CloudShellEmulator, fake_az: str, denying_az: None) -> None:
    check(answers("--", sys.executable, "-c", MSAL, ARM, SEARCH, DENIED), inside, fake_az)


@pytest.mark.clients
def test_msal_for_node(inside: CloudShellEmulator, fake_az: str, denying_az: None, tmp_path: Path) -> None:
    package = needs("@azure/msal-node")
    program = tmp_path / "app.cjs"
    program.write_text(MSAL_NODE)
    command = ["node", str(program), ARM, SEARCH, DENIED]
    check(answers("--", *command, MSAL=str(package), NODE_PATH=str(NODE_MODULES)), inside, fake_az)


CURL = "curl -s -m 30"
CHUNKED = f"{CURL} -H Metadata:true -H Transfer-Encoding:chunked"
GET = f"{CURL} -G --data-urlencode resource=$0"


# Requests of clients that are not here, as their sources have them.
@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f"{CHUNKED} -d resource=$0 $MSI_ENDPOINT", id="MSAL for Go: managedidentity/cloud_shell.go"),
        pytest.param(f"{CHUNKED} -d resource=$0 $MSI_ENDPOINT?api-version=2018-02-01", id="go-autorest: adal/token.go"),
        pytest.param(
            f"{GET} -H Metadata:true -d api-version=2018-02-01 $ARM_MSI_ENDPOINT",
            id="Terraform: go-azure-sdk/sdk/auth/managed_identity_authorizer.go",
        ),
        pytest.param(
            f"{GET} -H metadata:true -H x-identity-header:$IDENTITY_HEADER -d api-version=2019-08 $AZURE_MSI_ENDPOINT",
            id="object_store: azure/credential.rs",
        ),
        pytest.param(
            f"{GET} -H X-IDENTITY-HEADER:$IDENTITY_HEADER -d client_id=x -d api-version=2019-08-01 $IDENTITY_ENDPOINT",
            id="Azure SDK for .NET: AppServiceManagedIdentitySource",
        ),
        pytest.param(
            f"{GET} -H secret:$IDENTITY_HEADER -d api-version=2017-09-01 $IDENTITY_ENDPOINT/",
            id="App Service's first form",
        ),
        pytest.param(
            f'{CURL} -H "Authorization: Bearer $AZD_AUTH_KEY" -H Content-Type:application/json -d '
            "'{\"scopes\":[\"'$0'/.default\"]}' $AZD_AUTH_ENDPOINT/token?api-version=2023-07-12-preview",
            id="azd: external-authentication.md",
        ),
    ],
)
def test_a_client_in_miniature(inside: CloudShellEmulator, fake_az: str, line: str) -> None:
    for asked, token in ((ARM, inside.issue(ARM)[0]), (SEARCH, fake_az)):
        content = json.loads(run("run", "bash", "-c", line, asked).stdout)
        assert content.get("access_token", content.get("token")) == token


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
    return run("run", "--", sys.executable, "-c", RUST, url)


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


def test_verbose_shows_a_line_for_each_request_and_no_secret(inside: CloudShellEmulator, fake_az: str) -> None:
    done = run(
        "run", "--verbose", "--", sys.executable, "-c", SYNC + "\nimport os; print(os.environ['MSI_ENDPOINT'])", ARM
    )
    token, endpoint = json.loads(done.stdout.splitlines()[0])[0], done.stdout.splitlines()[1]
    assert "serving tokens on port" in done.stderr
    assert f"{ARM}: a token of ada@contoso.example in tenant {inside.identity.tenant_id}, valid for" in done.stderr
    assert token not in done.stderr
    assert endpoint.split("/")[3] not in done.stderr


def test_one_inside_another(inside: CloudShellEmulator, fake_az: str) -> None:
    command = [*COMMAND, "run", "--", sys.executable, "-c", SYNC, ARM, SEARCH]
    assert answers("--", *command) == [inside.issue(ARM)[0], fake_az] * 2
    assert len(inside.requests) <= 3


PARALLEL = """
import concurrent.futures, os, requests
names = ("management.azure.com", "vault.azure.net", "storage.azure.com", "graph.microsoft.com", "search.azure.com")
def ask(number):
    form = {"resource": f"https://{names[number % 5]}"}
    reply = requests.post(os.environ["MSI_ENDPOINT"], form, headers={"Metadata": "true"})
    return reply.json()["access_token"]
with concurrent.futures.ThreadPoolExecutor(10) as pool:
    assert len(set(pool.map(ask, range(10)))) == 5
"""


@pytest.mark.parametrize("processes", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_many_processes_cost_one_request_for_each_resource(
    inside: CloudShellEmulator, fake_az: str, tmp_path: Path, processes: int
) -> None:
    inside.latency = 0.2
    program = tmp_path / "bin" / "az"
    first, rest = program.read_text().split("\n", 1)
    program.write_text(f"{first}\nopen({str(tmp_path / 'starts')!r}, 'a').write('x')\n{rest}")
    (tmp_path / "parallel.py").write_text(PARALLEL)
    line = f"for i in $(seq {processes}); do {sys.executable} {tmp_path}/parallel.py & done; wait"
    done = run("run", "--", "bash", "-c", line)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(inside.requests) == 5
    assert (tmp_path / "starts").read_text() == "x"


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
            if "no_proxy" in line:
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
    assert url.startswith("http://127.0.0.1:")
    reply = requests.post(url, {"resource": ARM}, headers={"Metadata": "true"}, timeout=10, proxies={"http": ""})
    assert claims_of(reply.json()["access_token"])["upn"] == "ada@contoso.example"
    errors = serve.stop()
    assert f"Serving tokens of ada@contoso.example in tenant {inside.identity.tenant_id}" in errors
    assert "They are REAL" in errors
    assert ("every program on this machine can get one" in errors) != secret
    assert "unset MSI_SECRET" in serve.lines
    assert serve.variables()["NO_PROXY"] == serve.variables()["no_proxy"] == "127.0.0.1,localhost,::1"


@pytest.mark.slow
def test_idle_strangers_starve_nobody_where_few_files_may_be_open(factory: Path) -> None:
    # 256 is a Mac's default. What a process starts with cannot be set from outside on every system.
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        serve = Serve("--path-secret", "--credential", "mine:Opening")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    url = serve.variables()["MSI_ENDPOINT"]
    port = int(url.split(":")[2].partition("/")[0])

    def ask(client: int) -> list[int]:
        # Each for a resource of its own, so that none is answered from the cache.
        forms = [{"resource": f"https://{client}-{index}.example"} for index in range(10)]
        headers = {"Metadata": "true"}
        return [requests.post(url, form, headers=headers, timeout=20).status_code for form in forms]

    with ExitStack() as stack:
        stack.callback(serve.process.kill)
        for _ in range(400):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 60))
        assert in_threads(50, ask) == [[200] * 10] * 50
        serve.stop()


@ON_PORT_50342
def test_serve_on_cloud_shells_own_port_does_not_ask_itself(fake_az: str, tmp_path: Path) -> None:
    # In Cloud Shell's image on another machine nothing else listens there.
    start = time.monotonic()
    serve = Serve("--port", "50342", ACC_CLOUD="PROD")
    if not serve.lines and "in use" in (serve.process.communicate(timeout=20)[1]):
        pytest.skip("port 50342 is in use")
    url = serve.variables()["MSI_ENDPOINT"]
    reply = requests.post(url, {"resource": SEARCH}, headers={"Metadata": "true"}, timeout=10)
    assert reply.json()["access_token"] == fake_az
    serve.stop()
    # Who asks themselves waits 30 seconds for the answer.
    assert time.monotonic() - start < 30


class TestFilesOfServe:
    """Secrets that outlive the server, in files that nobody else may read."""

    def served(self, words: list[str], lines: Path) -> dict[str, str]:
        """The variables that it writes, while it serves them."""
        words = ["serve", "--port", "0", "--output", "env-file", "--to", str(lines), *words]
        with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            shown = ""
            while line := process.stderr.readline():
                shown += line
                if line == f"The lines are in {lines}.\n":
                    break
            else:
                raise AssertionError(shown)
            variables = dict(line.split("=", 1) for line in lines.read_text().splitlines())
            headers = {"X-IDENTITY-HEADER": variables["IDENTITY_HEADER"]}
            reply = requests.get(variables["IDENTITY_ENDPOINT"], {"resource": ARM}, headers=headers, timeout=10)
            assert reply.json()["access_token"] == "of-the-factory"
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=20)[0] == ""
        return variables

    @pytest.mark.parametrize("umask", [0, 0o077, 0o777])
    def test_nobody_else_can_read_them_whatever_the_umask(self, factory: Path, umask: int) -> None:
        # One that was there before, and open to all.
        lines, secrets = factory / "broker.env", factory / "secrets"
        lines.write_text("old")
        lines.chmod(0o644)
        before = os.umask(umask)
        try:
            self.served(["--credential", "mine:make", "--secrets", str(secrets)], lines)
        finally:
            os.umask(before)
        for file in (lines, secrets):
            assert file.stat().st_mode & 0o777 == 0o600
        assert {"broker.env", "mine.py", "secrets"} >= {
            file.name for file in factory.iterdir() if file.name != "__pycache__"
        }

    def test_the_secrets_are_the_same_after_a_restart_and_others_without_a_file(self, factory: Path) -> None:
        words, lines = ["--credential", "mine:make"], factory / "broker.env"
        kept = [self.served([*words, "--secrets", "secrets"], lines) for _ in range(2)]
        fresh = [self.served([*words, "--path-secret"], lines) for _ in range(2)]
        for name in ("IDENTITY_HEADER", "AZD_AUTH_KEY"):
            assert kept[0][name] == kept[1][name]
            assert len({each[name] for each in (*kept, *fresh)}) == 3
        paths = [each["MSI_ENDPOINT"].split("/")[3] for each in kept]
        assert paths[0] == paths[1]
        assert len(paths[0]) == 64

    def test_two_that_make_the_file_at_once_have_the_same(self, factory: Path) -> None:
        made: list[str] = []

        def make() -> str:
            # Another one, when this one has found none.
            if not made:
                made.append(_private_files.read(factory / "secrets", lambda: "first"))
            return "second"

        assert _private_files.read(factory / "secrets", make) == "first"
        assert (factory / "secrets").read_text() == "first"
        assert {each.name for each in factory.iterdir()} == {"mine.py", "secrets"}

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
    def test_a_file_that_others_can_read_or_change_is_refused(self, factory: Path, mode: int) -> None:
        (factory / "secrets").write_text(f"{'0' * 64}\n" * 3)
        (factory / "secrets").chmod(mode)
        done = run("serve", "--port", "0", "--credential", "mine:make", "--secrets", "secrets")
        assert (done.returncode, done.stdout) == (1, "")
        said = "secrets is not yours alone, and its secrets may be known: delete it, and new ones are made."
        assert done.stderr == f"azure-cloudshell: {said}\n"

    @pytest.mark.parametrize("text", ["", "x\n", f"{'0' * 64}\n" * 2, f"{'0' * 63}g\n" * 3, f"{'/' * 64}\n" * 3])
    def test_a_file_of_something_else_is_refused_and_left_alone(self, factory: Path, text: str) -> None:
        (factory / "secrets").write_text(text)
        (factory / "secrets").chmod(0o600)
        done = run("serve", "--port", "0", "--credential", "mine:make", "--secrets", "secrets")
        said = "azure-cloudshell: secrets does not hold the secrets of a broker: name another file, or delete it.\n"
        assert (done.returncode, done.stderr) == (1, said)
        assert (factory / "secrets").read_text() == text

    def test_files_that_cannot_be_made_are_one_line(self, factory: Path) -> None:
        for option in ("--secrets", "--to"):
            done = run("serve", "--port", "0", "--credential", "mine:make", option, "no/such")
            assert done.returncode == 1
            assert done.stderr.splitlines()[-1] == "azure-cloudshell: Cannot write no/such: No such file or directory."

    def test_without_a_sign_in_the_file_of_before_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", os.devnull)
        (tmp_path / "broker.env").write_text("old")
        assert run("serve", "--port", "0", "--to", str(tmp_path / "broker.env")).returncode == 1
        assert (tmp_path / "broker.env").read_text() == "old"


def test_serve_without_a_sign_in_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    done = run("serve", "--port", "0")
    assert done.returncode == 1
    assert done.stderr.startswith("azure-cloudshell: Not signed in. No credential has a token")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_whoever_listens_on_the_same_port_of_the_other_address_gets_nothing(
    inside: CloudShellEmulator, fake_az: str
) -> None:
    program = f"""
import os, subprocess, sys
from urllib.parse import urlsplit
squatter = subprocess.Popen([*{SQUAT!r}, str(urlsplit(os.environ["MSI_ENDPOINT"]).port)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)
assert int(squatter.stdout.readline())
{SYNC}
print(squatter.communicate()[0], end="")
"""
    lines = run("run", "--", sys.executable, "-c", program, ARM, SEARCH).stdout.splitlines()
    assert json.loads(lines[0]) == [inside.issue(ARM)[0], fake_az] * 2
    assert lines[1:] == ["asked: 0"]


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
@pytest.mark.parametrize("command", [["serve"], ["emulate"], ["emulate", "true"]])
def test_without_a_secret_a_port_is_not_shared_with_another_user(
    inside: CloudShellEmulator, squatter: int, command: list[str]
) -> None:
    # Tools with a hard-coded address ask localhost, which may be either address.
    done = run(command[0], "--port", str(squatter), *command[1:])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"azure-cloudshell: Port {squatter} is in use.")


def test_serve_names_a_port_in_use(shell: CloudShellEmulator) -> None:
    done = run("serve", "--port", str(shell.port))
    assert done.returncode == 1
    assert "--port 0" in done.stderr


FACTORY = """
import os, threading, time
from azure.core.credentials import AccessToken
class Credential:
    def get_token(self, *scopes, **options):
        return AccessToken("of-the-factory", int(time.time()) + 3600)
class AsyncCredential:
    async def get_token(self, *scopes, **options):
        return AccessToken("x", 1)
make = Credential
nothing = dict
make_async = AsyncCredential
def broken(): raise AttributeError("x\\ny")
def leaving(): raise SystemExit("gone")
def interrupted(): raise KeyboardInterrupt
def hanging(): open("hangs", "w").write(str(os.getpid())); time.sleep(60)
def lingering(): threading.Thread(target=time.sleep, args=[60]).start(); return Credential()
def asking(): print("To sign in, use a browser.", flush=False); return Credential()
class Opening(Credential):
    turn = threading.Lock()
    def get_token(self, *scopes, **options):
        # As many as starting az takes, one at a time.
        with self.turn:
            for each in [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]: os.close(each)
        return super().get_token(*scopes)
class Prompting(Credential):
    def get_token(self, *scopes, **options):
        print("Enter the code ABC.")
        return super().get_token(*scopes, **options)
"""

# Without any package, so that no module of the current directory is in its way.
ASKING = """
import json, os, urllib.request
url = os.environ["MSI_ENDPOINT"] + "?resource=https://x.example"
request = urllib.request.Request(url, headers={"Metadata": "true"})
print(json.load(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request))["access_token"])
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    # The package is found although the command runs elsewhere.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    return tmp_path


def test_a_credential_of_ones_own(factory: Path) -> None:
    for name in ("hmac", "requests", "jwt"):
        (factory / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    done = run("run", "--credential", "mine:make", "--", sys.executable, "-IS", "-c", ASKING)
    assert (done.stdout, done.stderr) == ("of-the-factory\n", "")


@pytest.mark.parametrize("command", ["run", "serve"])
@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("nonsense", 2, "--credential is az, default or MODULE:FACTORY, not 'nonsense'."),
        ("no_such_module:make", 1, "Cannot make a credential with no_such_module:make: ModuleNotFoundError: "),
        ("mine:absent", 1, "Cannot make a credential with mine:absent: AttributeError: "),
        ("mine:broken", 1, "Cannot make a credential with mine:broken: AttributeError: x y"),
        ("mine:leaving", 1, "Cannot make a credential with mine:leaving: SystemExit: gone"),
        ("mine:nothing", 1, "mine:nothing() does not return what is needed: dict is not a credential"),
        ("mine:make_async", 1, "AsyncCredential is asynchronous: a synchronous credential is needed here."),
    ],
)
def test_a_credential_that_cannot_be_made_is_one_line(
    factory: Path, command: str, name: str, status: int, said: str
) -> None:
    done = run(command, "--credential", name, *(["touch", "started"] if command == "run" else []))
    assert done.returncode == status
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (factory / "started").exists()


@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_credential_of_a_directory_that_is_gone_is_one_line(factory: Path, command: str) -> None:
    line = f'mkdir gone; cd gone; rmdir ../gone; exec "$@" {command} --credential no_such:make'
    program = shutil.which("azure-cloudshell", path=str(Path(sys.executable).parent)) or "azure-cloudshell"
    words = ["bash", "-c", f"{line} true" if command == "run" else line, "x", program]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "azure-cloudshell: Cannot make a credential with no_such:make: ModuleNotFoundError: No module named 'no_such' "
        "(The current directory is gone: change to one that is there.)\n"
    )


def test_a_credential_that_interrupts_is_told(factory: Path) -> None:
    done = run("run", "--credential", "mine:interrupted", "true")
    assert (done.returncode, done.stderr) == (1, "azure-cloudshell: KeyboardInterrupt\n")


def test_a_credential_that_asks_its_user_is_heard(factory: Path) -> None:
    done = run("run", "--credential", "mine:asking", "--", "echo", "hi")
    assert (done.stdout, done.stderr) == ("hi\n", "To sign in, use a browser.\n")


def test_what_a_credential_asks_its_user_does_not_stand_between_the_lines_of_serve(factory: Path) -> None:
    serve = Serve("--credential", "mine:Prompting")
    assert [line for line in serve.lines if not line.startswith(("unset ", "export "))] == []
    assert serve.stop().startswith("Enter the code ABC.\nServing tokens of an unnamed user")


def test_stderr_is_not_held_after_the_command_whatever_the_credential_still_does(factory: Path) -> None:
    start = time.monotonic()
    assert run("run", "--credential", "mine:lingering", "--", "true").stderr == ""
    assert time.monotonic() - start < 30


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_nothing_is_left_of_a_run_that_was_interrupted_while_its_credential_hung(factory: Path) -> None:
    started = factory / "hangs"
    with subprocess.Popen([*COMMAND, "run", "--credential", "mine:hanging", "true"], stderr=subprocess.PIPE) as process:
        assert eventually(lambda: started.exists() and started.read_text() != "", 30)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        server = Path("/proc", started.read_text())
        assert eventually(lambda: not server.exists(), 10)


def test_two_users_are_told_without_verbose(
    inside: CloudShellEmulator, fake_az: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = CloudShellEmulator(identity=Identity(user="eve@contoso.example", object_id="e")).issue(SEARCH)[0]
    program = tmp_path / "bin" / "az"
    program.write_text(program.read_text().replace(fake_az, other))
    done = run("run", "--", sys.executable, "-c", MSAL, ARM, SEARCH)
    assert json.loads(done.stdout) == [inside.issue(ARM)[0], other]
    assert done.stderr.startswith(
        f"azure-cloudshell: {SEARCH.rstrip('/')} is accessed as eve@contoso.example in tenant "
    )
    assert "not as ada@contoso.example" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_azure_cli_that_is_not_there_is_told_before_the_command_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    done = run("run", "--credential", "az", "--", "true")
    what = "azure-cloudshell: --credential az needs the Azure CLI, and there is no az on PATH."
    said = f"{what} Install the Azure CLI and run 'az login'.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_no_log_of_another_library_stands_between_the_lines_of_the_program(
    inside: CloudShellEmulator, fake_az: str, denying_az: None
) -> None:
    command = [sys.executable, "-c", MSAL, DENIED]
    for words in ([], ["--verbose"]):
        lines = run("run", "--credential", "az", *words, "--", *command).stderr.splitlines()[len(words) :]
        assert len(lines) == 1
        assert lines[0].startswith(f"azure-cloudshell: {DENIED}: refused, ")
        assert REFUSAL in lines[0]


@pytest.mark.parametrize("words", [["token", "search"], ["doctor"]])
def test_our_own_commands_say_themselves_why_a_resource_is_refused(
    inside: CloudShellEmulator, fake_az: str, words: list[str]
) -> None:
    done = run("run", "--allow", "arm", "--", *COMMAND, *words)
    assert ": refused, " not in done.stderr
    assert "--allow" in done.stdout + done.stderr


def test_our_own_credential_says_it_too(inside: CloudShellEmulator, fake_az: str) -> None:
    program = "from azure_cloudshell_credential import CloudShellCredential as C; C().get_token('https://x.example')"
    done = run("run", "--allow", "arm", "--", sys.executable, "-c", program)
    assert done.returncode == 1
    assert ": refused, " not in done.stderr
    step = "To have it served, name it in --allow where azure-cloudshell was started."
    assert f"told not to serve https://x.example (--allow). {step}\n" in done.stderr


def test_where_a_broker_is_gone_another_says_to_start_it_from_a_new_shell(inside: CloudShellEmulator) -> None:
    # A shell that has the lines of `serve`, which has ended.
    with CloudShellBroker() as gone:
        left = gone.child_environment(os.environ)
    program = "from azure_cloudshell_credential import CloudShellCredential as C; C().get_token('https://x.example')"
    done = run("run", "--", sys.executable, "-c", program, **left)
    assert (
        "Start azure-cloudshell again in a new shell, and this program with the variables that it sets." in done.stderr
    )


def test_in_a_cleared_environment_it_gives_the_reason_that_token_gives(tmp_path: Path) -> None:
    # As cron, sudo and MCP clients leave it. The program itself is not told where it runs.
    for name in ("bash", "curl"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    name = "AZURE_POD_IDENTITY_AUTHORITY_HOST"
    kept = [f"PATH={tmp_path}", f"HOME={tmp_path}", f"{name}={os.environ[name]}"]
    cleared = ["env", "-i", *kept, *COMMAND]
    token = subprocess.run([*cleared, "token"], capture_output=True, text=True, check=False, timeout=60).stderr
    script = 'curl -s -H Metadata:true "$MSI_ENDPOINT?resource=$0"'
    done = subprocess.run(
        [*cleared, "run", "bash", "-c", script, ARM], capture_output=True, text=True, check=True, timeout=60
    )
    reason = token.removeprefix("azure-cloudshell: ").partition(". ")[0]
    assert reason.startswith("This is not Azure Cloud Shell: ")
    assert done.stderr.startswith(f"azure-cloudshell: {ARM}: refused, {reason}. No credential has a token")
    assert reason not in done.stdout
    assert "No credential has a token" in done.stdout


def test_why_a_resource_is_refused_is_one_line_for_each(inside: CloudShellEmulator, fake_az: str) -> None:
    # Not every client passes it on.
    said = f"azure-cloudshell: {ARM}: refused, not one of the resources that are allowed (--allow)"
    script = 'for i in 1 2 3; do curl -s -H Metadata:true "$MSI_ENDPOINT?resource=$0"; done; echo done >&2'
    assert run("run", "--allow", "search", "bash", "-c", script, ARM).stderr.splitlines() == [said, "done"]


def test_the_variable_that_narrows_the_chain_of_the_program_leaves_the_brokers_alone(
    inside: CloudShellEmulator, fake_az: str
) -> None:
    command = [sys.executable, "-c", SYNC, ARM, SEARCH]
    for chosen in ("prod", "ManagedIdentityCredential"):
        assert answers("--", *command, AZURE_TOKEN_CREDENTIALS=chosen) == [inside.issue(ARM)[0], fake_az] * 2


def test_only_the_resources_that_are_allowed_are_served(inside: CloudShellEmulator, fake_az: str) -> None:
    command = [sys.executable, "-c", MSAL, ARM, SEARCH]
    done = run("run", "--allow", "vault,https://search.azure.com", "--verbose", "--", *command)
    first, second = json.loads(done.stdout)
    assert "told not to serve https://management.azure.com (--allow)" in first
    assert second == fake_az
    assert f"{ARM}: refused, not one of the resources that are allowed" in done.stderr


@pytest.mark.parametrize("program", [SYNC, AIO], ids=["sync", "aio"])
def test_a_default_azure_credential_does_not_go_past_the_broker_to_az(
    inside: CloudShellEmulator, fake_az: str, program: str
) -> None:
    # The refused one first: a chain that has succeeded once remembers where.
    done = run("run", "--allow", "search", "--", sys.executable, "-c", program, ARM, SEARCH)
    found = json.loads(done.stdout)
    for refused, served in zip(found[::2], found[1::2], strict=True):
        assert "ClientAuthenticationError: " in refused or "CredentialUnavailableError: " in refused
        assert served == fake_az


def test_a_choice_of_the_users_own_stays_and_what_it_lets_past_is_said(
    inside: CloudShellEmulator, fake_az: str
) -> None:
    program = SYNC.replace("(DefaultAzureCredential, ManagedIdentityCredential)", "(DefaultAzureCredential,)")
    words = ["run", "--allow", "search", "--", sys.executable, "-c", program, ARM]
    done = run(*words, AZURE_TOKEN_CREDENTIALS="AzureCliCredential")
    assert json.loads(done.stdout) == [fake_az]
    assert done.stderr == (
        "azure-cloudshell: AZURE_TOKEN_CREDENTIALS=AzureCliCredential is set: "
        "programs may ask other credentials for what --allow refuses\n"
    )
    # Nothing to be said where nothing is limited, or where the choice lets nobody past.
    for limits, chosen in (([], "dev"), (["--allow=arm"], "prod"), (["--allow=arm"], "ManagedIdentityCredential")):
        done = run("run", *limits, "--", "printenv", "AZURE_TOKEN_CREDENTIALS", AZURE_TOKEN_CREDENTIALS=chosen)
        assert (done.stdout, done.stderr) == (f"{chosen}\n", "")


def test_a_service_principal_that_programs_can_sign_in_as_is_said(inside: CloudShellEmulator) -> None:
    said = []
    for limits in ([], ["--allow", "search"]):
        done = run(
            "run", *limits, "--", "printenv", "AZURE_CLIENT_SECRET", AZURE_CLIENT_ID="x", AZURE_CLIENT_SECRET="y"
        )
        assert done.stdout == "y\n"
        said.append(done.stderr)
    assert said == [
        "",
        "azure-cloudshell: AZURE_CLIENT_SECRET is set: programs may use it for what --allow refuses\n",
    ]


@pytest.mark.parametrize("chosen", ["", "dev"])
def test_serve_leads_a_default_azure_credential_no_further_either(inside: CloudShellEmulator, chosen: str) -> None:
    serve = Serve("--allow", "arm", AZURE_TOKEN_CREDENTIALS=chosen)
    assert serve.variables()["AZURE_TOKEN_CREDENTIALS"] == (chosen or "prod")
    assert ("is set: programs may ask other credentials" in serve.stop()) == bool(chosen)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host-name", "http://x/"], "'http://x/' is not a host name"),
        (["--host-name", "x\nPATH=y"], "'x\\nPATH=y' is not a host name"),
        (["--listen", "224.0.0.1"], "224.0.0.1 is an address of many machines"),
        (["--listen", "255.255.255.255"], "255.255.255.255 is an address of many machines"),
        (["--output", "env-file"], "NO_PROXY has a line break"),
    ],
)
def test_what_cannot_stand_in_the_lines_of_serve_is_wrong_usage(words: list[str], said: str) -> None:
    done = run("serve", "--port", "0", *words, NO_PROXY="a\nPATH=b")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize("command", ["run", "serve"])
def test_an_unknown_name_for_allow_is_wrong_usage(command: str) -> None:
    done = run(command, "--allow", "vualt", *(["true"] if command == "run" else []))
    assert done.returncode == 2
    assert "'vualt' is not a known resource. Did you mean 'vault'?" in done.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "a"}, "a,127.0.0.1,localhost,::1"),
        ({"no_proxy": "a, .b"}, "a,.b,127.0.0.1,localhost,::1"),
        ({"no_proxy": "a", "NO_PROXY": "b,localhost"}, "a,b,localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "*"}, "*"),
        ({"no_proxy": "a,*", "NO_PROXY": "b"}, "*"),
    ],
)
def test_exemptions_from_proxies_are_merged_into_both_spellings(before: dict[str, str], after: str) -> None:
    done = run("run", "--", "bash", "-c", 'echo "$NO_PROXY $no_proxy"', **before)
    assert done.stdout == f"{after} {after}\n"


@pytest.mark.parametrize("words", [("serve", "--listen"), ("serve", "--host-name"), ("run", "--credential")])
def test_a_token_in_the_place_of_an_option_is_not_repeated(words: tuple[str, str]) -> None:
    done = run(*words, "eyJhbGciOiJub25lIn0.eyJ0aWQiOiJ4In0.sig_")
    assert done.returncode == 2
    assert "[redacted]" in done.stderr
    assert "eyJ" not in done.stderr
