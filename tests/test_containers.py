"""``serve --listen``: programs behind a bridge, here a network namespace and a veth pair, as a container has them.

No Docker is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from azure_cloudshell_credential.emulator import CloudShellEmulator

from .azurite import NODE_MODULES, needs
from .command import COMMAND, run, without_coverage
from .test_cli_run import (
    AIO,
    ARM,
    CHUNKED,
    CURL,
    DENIED,
    GET,
    JAVASCRIPT,
    MSAL,
    MSAL_NODE,
    REFUSAL,
    SEARCH,
    SYNC,
    check,
)

pytestmark = pytest.mark.slow

HOST = "host.docker.internal"


class Container:
    """A network namespace with a bridge to this machine, whose programs see the variables of an env-file alone."""

    def __init__(self, number: int) -> None:
        self.name = f"cloudshell-{os.getpid()}-{number}"
        subnet = f"10.{200 + number}.{os.getpid() % 250}"
        self.gateway, self.address = f"{subnet}.1", f"{subnet}.2"
        outer, inner = f"cs{os.getpid() % 100_000}-{number}a", f"cs{os.getpid() % 100_000}-{number}b"
        self._hosts = Path("/etc/netns", self.name)
        self._ip(f"netns add {self.name}")
        self._ip(f"link add {outer} type veth peer name {inner} netns {self.name}")
        self._ip(f"addr add {self.gateway}/24 dev {outer}")
        self._ip(f"link set {outer} up")
        for line in ("link set lo up", f"addr add {self.address}/24 dev {inner}", f"link set {inner} up"):
            self._ip(f"-n {self.name} {line}")
        self._hosts.mkdir(parents=True)
        (self._hosts / "hosts").write_text(f"127.0.0.1 localhost\n{self.gateway} {HOST}\n")

    def _ip(self, line: str) -> None:
        subprocess.run(["ip", *line.split()], check=True, capture_output=True, timeout=30)

    def run(self, variables: list[str], *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as ``docker run --env-file`` does, with a proxy that nobody serves."""
        own = [f"PATH={os.environ['PATH']}", "HTTP_PROXY=http://127.0.0.1:9", "http_proxy=http://127.0.0.1:9"]
        words = ["ip", "netns", "exec", self.name, "env", "-i", *own, *variables, *command]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    def remove(self) -> None:
        self._ip(f"netns del {self.name}")
        shutil.rmtree(self._hosts)


@pytest.fixture(scope="module")
def containers() -> Iterator[list[Container]]:
    made: list[Container] = []
    try:
        made += map(Container, range(2))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs ip (iproute2) and leave to make network namespaces")
    yield made
    for each in made:
        each.remove()


@pytest.fixture
def container(containers: list[Container]) -> Container:
    return containers[0]


class Served:
    """``serve`` for a container."""

    def __init__(self, container: Container, *options: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", "--listen", container.gateway, "--output", "env-file", *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=without_coverage(),
        )  # fmt: skip
        assert self.process.stdout is not None
        self.lines: list[str] = []
        while line := self.process.stdout.readline():
            self.lines.append(line.rstrip("\n"))
            if line.startswith("no_proxy="):
                break
        self.variables = dict(line.split("=", 1) for line in self.lines)

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=20)[1]


@pytest.fixture
def inside(in_cloud_shell: CloudShellEmulator, fake_az: str, tmp_path: Path) -> CloudShellEmulator:
    """An emulated Cloud Shell that refuses search, with an az that has no token for one resource."""
    in_cloud_shell.deny("search")
    program = tmp_path / "bin" / "az"
    first, rest = program.read_text().split("\n", 1)
    refusal = f"import sys\nif any({DENIED!r} in word for word in sys.argv): sys.exit({REFUSAL!r})"
    program.write_text(f"{first}\n{refusal}\n{rest}")
    return in_cloud_shell


@pytest.fixture
def served(container: Container, inside: CloudShellEmulator) -> Iterator[Served]:
    found = Served(container, "--host-name", HOST, "--host-name", "gateway.docker.internal")
    yield found
    found.stop()


def test_the_lines_are_an_env_file(served: Served, container: Container) -> None:
    for name in ("MSI_ENDPOINT", "IDENTITY_ENDPOINT", "ARM_MSI_ENDPOINT", "AZURE_MSI_ENDPOINT", "AZD_AUTH_ENDPOINT"):
        assert served.variables[name].startswith(f"http://{HOST}:")
        if name in ("MSI_ENDPOINT", "ARM_MSI_ENDPOINT"):
            assert len(served.variables[name].split("/")[3]) == 64
    for name in ("IDENTITY_HEADER", "AZD_AUTH_KEY"):
        assert len(served.variables[name]) == 64
    assert {HOST, container.gateway, "127.0.0.1"} <= set(served.variables["NO_PROXY"].split(","))
    errors = served.stop()
    assert "anyone who knows the lines below can act as this user" in errors
    assert f"They cross the network of {container.gateway} without encryption." in errors


@pytest.mark.parametrize("program", [SYNC, AIO], ids=["sync", "aio"])
def test_azure_identity_for_python(
    served: Served, container: Container, inside: CloudShellEmulator, fake_az: str, program: str
) -> None:
    done = container.run(served.lines, sys.executable, "-c", program, ARM, SEARCH, DENIED)
    check(json.loads(done.stdout), inside, fake_az)


def test_msal_for_python(served: Served, container: Container, inside: CloudShellEmulator, fake_az: str) -> None:
    done = container.run(served.lines, sys.executable, "-c", MSAL, ARM, SEARCH, DENIED)
    check(json.loads(done.stdout), inside, fake_az)


@pytest.mark.clients
@pytest.mark.parametrize(("package", "program"), [("identity", JAVASCRIPT), ("msal-node", MSAL_NODE)])
def test_javascript(
    served: Served, container: Container, inside: CloudShellEmulator, fake_az: str, tmp_path: Path,
    package: str, program: str,
) -> None:  # fmt: skip
    path = needs(f"@azure/{package}")
    (tmp_path / "app.cjs").write_text(program)
    own = [f"NODE_PATH={NODE_MODULES}", f"IDENTITY={path}", f"MSAL={path}", "CLIENT_ID=0f0f"]
    done = container.run([*served.lines, *own], "node", str(tmp_path / "app.cjs"), ARM, SEARCH, DENIED)
    check(json.loads(done.stdout), inside, fake_az)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f"{CHUNKED} -d resource=$0 $MSI_ENDPOINT", id="Go"),
        pytest.param(f"{GET} -H Metadata:true $ARM_MSI_ENDPOINT", id="Terraform"),
        pytest.param(f"{GET} -H X-IDENTITY-HEADER:$IDENTITY_HEADER $AZURE_MSI_ENDPOINT", id="object_store"),
        pytest.param(
            f"{GET} -H X-IDENTITY-HEADER:$IDENTITY_HEADER -d client_id=x $IDENTITY_ENDPOINT", id="App Service"
        ),
        pytest.param(
            f'{CURL} -H "Authorization: Bearer $AZD_AUTH_KEY" -d \'{{"scopes":["\'$0\'/.default"]}}\' '
            "$AZD_AUTH_ENDPOINT/token",
            id="azd",
        ),
    ],
)
def test_clients_in_miniature(served: Served, container: Container, inside: CloudShellEmulator, line: str) -> None:
    content = json.loads(container.run(served.lines, "bash", "-c", line, ARM).stdout)
    assert content.get("access_token", content.get("token")) == inside.issue(ARM)[0]


def test_each_name_that_was_given_is_served_and_no_other(served: Served, container: Container) -> None:
    port = served.variables["MSI_ENDPOINT"].split(":")[2].split("/")[0]
    path = served.variables["MSI_ENDPOINT"].split(port)[1]
    url = f"{container.gateway}:{port}{path}?resource={ARM}"
    line = f"curl -s -o /dev/null -w %{{http_code}} -H Metadata:true -H Host:$0 '{url}'"
    for host, status in (
        (f"{HOST}:{port}", "200"),
        (HOST.upper(), "200"),
        (f"gateway.docker.internal:{port}", "200"),
        (f"{container.gateway}:{port}", "200"),
        ("evil.example", "403"),
        (f"evil.example:{port}", "403"),
        (f"{HOST}.evil.example", "403"),
        (container.address, "403"),
        ("169.254.169.254", "403"),
        (f"{HOST}:x", "403"),
    ):
        done = container.run([f"NO_PROXY={container.gateway}"], "bash", "-c", line, host)
        assert done.stdout == status, host


def test_a_stranger_gets_nothing(served: Served, containers: list[Container]) -> None:
    # Another container on another bridge reaches the same address, and has no secret.
    route = ["ip", "-n", containers[1].name, "route", "add", "default", "via", containers[1].gateway]
    subprocess.run(route, check=True, capture_output=True, timeout=30)
    port = served.variables["MSI_ENDPOINT"].split(":")[2].split("/")[0]
    url = f"http://{containers[0].gateway}:{port}"
    for path in (
        "/oauth2/token",
        "/msi/token",
        "/metadata/identity/oauth2/token",
        "/token",
        f"/{'0' * 64}/oauth2/token",
    ):
        line = f"curl -s -m 20 -H Metadata:true '{url}{path}?resource={ARM}'"
        done = containers[1].run([f"NO_PROXY={containers[0].gateway}"], "bash", "-c", line)
        assert json.loads(done.stdout)["error"]["code"] == "NotFound"


def test_nothing_else_of_this_machine_listens_for_it(served: Served, container: Container) -> None:
    port = served.variables["MSI_ENDPOINT"].split(":")[2].split("/")[0]
    listening = subprocess.run(["ss", "-ltnH", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[3] for line in listening.splitlines()] == [f"{container.gateway}:{port}"]


def test_once_it_is_stopped_nothing_answers(served: Served, container: Container) -> None:
    served.stop()
    done = container.run(served.lines, "bash", "-c", "curl -s -m 5 -H Metadata:true $MSI_ENDPOINT")
    assert (done.returncode, done.stdout) == (7, "")


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_a_wildcard_address_is_wrong_usage(address: str) -> None:
    done = run("serve", "--listen", address)
    assert done.returncode == 2
    assert f"{address} is every address of this machine: name the one" in done.stderr


def test_an_address_of_another_machine_is_an_error(in_cloud_shell: CloudShellEmulator) -> None:
    done = run("serve", "--listen", "198.51.100.7", "--port", "0")
    assert done.returncode == 1
    said = "azure-cloudshell: Cannot listen on 198.51.100.7: this machine does not have that address. It has "
    assert done.stderr.startswith(said)
    assert "127.0.0.1 (lo" in done.stderr
