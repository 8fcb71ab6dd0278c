"""The lines of docs/programs.md for other programs, each run with the program that it is for."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from zipfile import ZipFile

import jwt
import pytest

from azure_cloudshell_credential._serving.messages import Request, Response, compact
from azure_cloudshell_credential.emulator import CloudShellEmulator
from azure_cloudshell_credential.emulator._issuer import verify
from azure_cloudshell_credential.emulator._proxy import Proxy

from .clients import python_of
from .command import COMMAND, eventually

PAGE = Path(__file__).parent.parent / "docs" / "programs.md"
POSTGRES = "https://ossrdbms-aad.database.windows.net"
DEVOPS = "499b84ac-1321-427f-aa17-267ca6975798"


def line_for(what: str) -> str:
    """The command that the page has for something."""
    found = re.search(rf"^\| {re.escape(what)}[^|]* \| `([^`]+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, what
    return found[1]


def bash(line: str, *folders: Path | str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*map(str, folders), str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-c", line],
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Postgres:
    """A database server that takes a token for databases as its user's password, and answers every query with 1."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            with connection, connection.makefile("rb") as file:
                self._talk(connection, file)

    def _talk(self, connection: socket.socket, file: io.BufferedReader) -> None:
        # PostgreSQL's protocol, 55.7: a startup message, perhaps after a question for TLS, then messages with a type.
        start = b""
        while not start.startswith(b"\0\3\0\0"):
            if start:
                connection.sendall(b"N")
            start = file.read(int.from_bytes(file.read(4), "big") - 4)
        words = start[4:].split(b"\0")
        user = dict(zip(words[::2], words[1::2], strict=False))[b"user"].decode()
        connection.sendall(_message(b"R", (3).to_bytes(4, "big")))
        assert file.read(1) == b"p"
        password = file.read(int.from_bytes(file.read(4), "big") - 4).rstrip(b"\0").decode()
        try:
            claims = verify(password)
        except jwt.InvalidTokenError:
            claims = {}
        if (claims.get("aud"), claims.get("upn")) != (POSTGRES, user):
            connection.sendall(_message(b"E", b"SFATAL\0C28P01\0Mthe token is not for this\0\0"))
            return
        ready = _message(b"Z", b"I")
        connection.sendall(_message(b"R", (0).to_bytes(4, "big")) + ready)
        assert file.read(1) == b"Q"
        column = b"one\0" + bytes(6) + (25).to_bytes(4, "big") + b"\xff\xff" + b"\xff\xff\xff\xff" + b"\0\0"
        connection.sendall(
            _message(b"T", b"\0\1" + column)
            + _message(b"D", b"\0\1\0\0\0\1" + b"1")
            + _message(b"C", b"SELECT 1\0")
            + ready
        )
        file.read()

    def stop(self) -> None:
        self._listener.close()


def _message(kind: bytes, content: bytes) -> bytes:
    return kind + (len(content) + 4).to_bytes(4, "big") + content


@pytest.mark.skipif(shutil.which("psql") is None, reason="needs psql")
def test_psql_signs_in_with_a_token(in_cloud_shell: CloudShellEmulator) -> None:
    server = Postgres()
    line = line_for("PostgreSQL").replace("SERVER", "127.0.0.1") + " -Atc 'select 1'"
    done = bash(line, PGPORT=str(server.port))
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    for other in (line.replace("token postgres", "token arm"), line.replace("ada@", "eve@")):
        assert "the token is not for this" in bash(other, PGPORT=str(server.port)).stderr
    server.stop()


def test_two_users_of_az_side_by_side(tmp_path: Path) -> None:
    az = tmp_path / "bin" / "az"
    az.parent.mkdir()
    answer = '{"accessToken": "of-%s", "expires_on": 2000000000, "expiresOn": "2033-05-18 03:33:20.000000"}'
    az.write_text(
        f"#!{sys.executable} -IS\nimport os\nprint({answer!r} % os.path.basename(os.environ['AZURE_CONFIG_DIR']))\n"
    )
    az.chmod(0o755)
    ask = "bash -c 'curl -s -m 30 -H Metadata:true $MSI_ENDPOINT?resource=https://vault.azure.net'"
    line = line_for("a second user of az").replace("COMMAND", ask)
    both = f"{line} & {line.replace('.azure-work', '.azure-home')} & wait"
    assert set(re.findall(r"of-[.\w-]+", bash(both, az.parent, HOME=str(tmp_path)).stdout)) == {
        "of-.azure-work",
        "of-.azure-home",
    }


class Feed:
    """A package feed of Azure Artifacts, which has one package for who has a token for Azure DevOps."""

    tenant = "11111111-aaaa-4bbb-8ccc-222222222222"
    url = "https://pkgs.dev.azure.com/contoso/_packaging/feed/pypi/simple/"
    session = "a-session-token"

    def __init__(self) -> None:
        self.users: list[str] = []
        wheel = io.BytesIO()
        with ZipFile(wheel, "w") as file:
            file.writestr("hello_feed.py", "")
            info = "hello_feed-1.0.dist-info"
            file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: hello-feed\nVersion: 1.0\n")
            file.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            file.writestr(f"{info}/RECORD", "")
        self.wheel = wheel.getvalue()

    def sign_in(self, request: Request) -> Response:
        """Azure DevOps' service for session tokens."""
        if _is_for_devops(request.headers.get("authorization", "").removeprefix("Bearer ")):
            return Response(200, compact({"token": self.session}))
        return Response(401)

    def respond(self, request: Request) -> Response:
        """The feed's index, and its package."""
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        user, _, password = base64.b64decode(encoded).decode().partition(":")
        if scheme != "Basic" or not (password == self.session or _is_for_devops(password)):
            login = f'Bearer authorization_uri=https://login.microsoftonline.com/{self.tenant}, Basic realm="it"'
            authority = "https://vssps.dev.azure.com/contoso/"
            return Response(401, headers={"WWW-Authenticate": login, "X-VSS-AuthorizationEndpoint": authority})
        self.users.append(user)
        if request.path.endswith(".whl"):
            response = Response(200, headers={"Content-Type": "application/octet-stream"})
            response.body = self.wheel
            return response
        name = "hello_feed-1.0-py3-none-any.whl"
        return Response(200, f'<a href="{self.url}{name}">{name}</a>', {"Content-Type": "text/html"})


def _is_for_devops(token: str) -> bool:
    try:
        return bool(verify(token)["aud"] == DEVOPS)
    except jwt.InvalidTokenError:
        return False


@pytest.fixture
def programs(tmp_path: Path) -> str:
    """Where pip and uv are; with an az that nobody is signed in to."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "az").write_text("#!/bin/sh\necho 'ERROR: Please run az login' >&2; exit 1\n")
    (folder / "az").chmod(0o755)
    return os.pathsep.join([str(folder), str(Path(python_of("feeds")).parent)])


@contextmanager
def served(feed: Feed, folder: Path) -> Iterator[dict[str, str]]:
    """The variables that lead to a feed, and to nothing else."""
    hosts = {"pkgs.dev.azure.com": feed.respond, "vssps.dev.azure.com": feed.sign_in}
    with Proxy(hosts, folder / "ca.pem") as proxy:
        own = {
            "HOME": str(folder),
            "PIP_CONFIG_FILE": os.devnull,
            "UV_NO_CONFIG": "1",
            "UV_CACHE_DIR": str(folder / "uv"),
        }
        yield {**proxy.environment, **own}


@pytest.mark.clients
@pytest.mark.slow
def test_pip_installs_from_a_feed(in_cloud_shell: CloudShellEmulator, programs: str, tmp_path: Path) -> None:
    feed = Feed()
    line = line_for("pip, from a feed").replace("URL", feed.url).replace("NAME", "hello-feed")
    with served(feed, tmp_path) as variables:
        done = bash(f"{line} --target {tmp_path}/installed", programs, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "installed" / "hello_feed.py").exists()
    assert set(feed.users) == {"VssSessionToken"}


@pytest.mark.clients
@pytest.mark.slow
def test_uv_syncs_from_a_feed(in_cloud_shell: CloudShellEmulator, programs: str, tmp_path: Path) -> None:
    feed = Feed()
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "it"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["hello-feed"]\n'
        f'[[tool.uv.index]]\nname = "feed"\nurl = "{feed.url}"\ndefault = true\n'
    )
    with served(feed, tmp_path) as variables:
        variables.pop("UV_NO_CONFIG")
        done = bash(f"cd {project}; {line_for('uv, from one')}", programs, **variables, UV_PYTHON=sys.executable)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(project.glob(".venv/lib/*/site-packages/hello_feed.py"))
    assert set(feed.users) == {"x"}


SSH_SERVER = """
import asyncio, sys, asyncssh
class Server(asyncssh.SSHServer):
    def begin_auth(self, username): return False
    def server_requested(self, host, port): return True
async def main():
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen("127.0.0.1", 0, server_factory=Server, server_host_keys=[key],
                                   process_factory=lambda process: None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""


@pytest.mark.clients
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs ssh")
def test_another_machine_over_ssh(in_cloud_shell: CloudShellEmulator, tmp_path: Path) -> None:
    serve, ssh = line_for("another machine"), re.search(r"`(ssh [^`]+)`", PAGE.read_text(encoding="utf-8"))
    assert ssh
    server = [python_of("ssh"), "-c", SSH_SERVER]
    lines = tmp_path / "broker.env"
    with ExitStack() as stack:
        other = stack.enter_context(subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        stack.callback(other.kill)
        assert other.stdout is not None
        port = int(other.stdout.readline())
        # Both ends are on one machine here: so the port is another one on each.
        words = [*COMMAND, *serve.split()[1:], "--port", "0", "--output", "env-file", "--to", str(lines)]
        ours = stack.enter_context(subprocess.Popen(words, stderr=subprocess.DEVNULL))
        stack.callback(ours.kill)
        assert eventually(lines.exists, 30)
        variables = dict(line.split("=", 1) for line in lines.read_text().splitlines())
        url = urlsplit(variables["MSI_ENDPOINT"])
        with socket.create_server(("127.0.0.1", 0)) as free:
            there = free.getsockname()[1]
        options = (
            "-N -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ExitOnForwardFailure=yes -F /dev/null"
        )
        forward = (
            ssh[1].replace("50342:", f"{there}:", 1).replace(":50342", f":{url.port}").replace("HOST", "127.0.0.1")
        )
        tunnel = stack.enter_context(
            subprocess.Popen([*forward.split(), *options.split(), "-p", str(port)], stderr=subprocess.DEVNULL)
        )
        stack.callback(tunnel.kill)
        seen = f"http://127.0.0.1:{there}{url.path}?resource=https://vault.azure.net"
        ask = ["curl", "-s", "-m", "20", "-H", "Metadata:true", seen]
        reply = eventually(lambda: subprocess.run(ask, capture_output=True, text=True, check=False).stdout, 30)
        assert in_cloud_shell.issue("https://vault.azure.net")[0] in reply
