"""The real git, with ``azure-cloudshell token`` as its credential helper; the server checks the token."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import jwt
import pytest
import trustme

from azure_cloudshell_credential.emulator import CloudShellEmulator
from azure_cloudshell_credential.emulator._issuer import verify

from .command import COMMAND, run

pytestmark = pytest.mark.slow

DEVOPS = "499b84ac-1321-427f-aa17-267ca6975798"
HELPER = "!azure-cloudshell token devops -o git-credential"


class Repositories(BaseHTTPRequestHandler):
    """``git http-backend`` for who has a token for Azure DevOps as the password of Basic authentication."""

    protocol_version = "HTTP/1.1"
    root: Path
    passwords: list[str]
    refuses = False

    def do_GET(self) -> None:
        scheme, _, encoded = self.headers.get("Authorization", "").partition(" ")
        _, _, password = b64decode(encoded).decode().partition(":")
        if scheme == "Basic":
            self.passwords.append(password)
        if scheme != "Basic" or self.refuses or not is_for_devops(password):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="it"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        variables = {
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "REMOTE_USER": "ada",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"],
            input=self.rfile.read(int(self.headers.get("Content-Length", "0"))),
            env={**os.environ, **variables},
            capture_output=True,
            timeout=60,
            check=True,
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(headers.pop("Status", "200")[:3]))
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing: a test reads what it needs from the requests."""


def is_for_devops(password: str) -> bool:
    try:
        return bool(verify(password)["aud"] == DEVOPS)
    except jwt.InvalidTokenError:
        return False


class Git:
    """git with a home of its own, and the server it reaches as dev.azure.com and under any other name."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("dev.azure.com", "contoso.visualstudio.com", "evil.example").configure_cert(context)

        class These(Repositories):
            root = folder / "server"
            passwords: list[str] = []

        self.repositories = These
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.repositories)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_port
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSL_CAINFO": str(folder / "ca.pem"),
        }
        for option in ("user.name=Ada", "user.email=ada@contoso.example", "init.defaultBranch=main"):
            self("config", "--global", *option.split("="))
        for host in ("dev.azure.com", "contoso.visualstudio.com", "evil.example"):
            self("config", "--global", "--add", "http.curloptResolve", f"{host}:{self.port}:127.0.0.1")
        self("init", "--bare", "--quiet", str(folder / "server" / "contoso"))
        self("-C", str(folder / "server" / "contoso"), "config", "http.receivepack", "true")

    def __call__(self, *words: str, is_refused: bool = False) -> str:
        done = subprocess.run(
            ["git", *words], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode != 0) == is_refused, done.stderr
        return done.stdout + done.stderr

    def url(self, host: str) -> str:
        return f"https://{host}:{self.port}"


@pytest.fixture
def git(in_cloud_shell: CloudShellEmulator, tmp_path: Path) -> Iterator[Git]:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    git = Git(tmp_path)
    yield git
    git.server.shutdown()
    git.server.server_close()


@pytest.mark.parametrize("host", ["dev.azure.com", "contoso.visualstudio.com"])
def test_git_clones_and_pushes_with_the_token(
    git: Git, in_cloud_shell: CloudShellEmulator, tmp_path: Path, host: str
) -> None:
    # One line of configuration, as documented; a port is part of the name it goes by.
    git("config", "--global", f"credential.{git.url(host)}.helper", HELPER)
    git("clone", "--quiet", f"{git.url(host)}/contoso", str(tmp_path / "first"))
    git("-C", str(tmp_path / "first"), "commit", "--quiet", "--allow-empty", "--message", "Begin")
    git("-C", str(tmp_path / "first"), "push", "--quiet", "origin", "main")
    git("clone", "--quiet", f"{git.url(host)}/contoso", str(tmp_path / "second"))
    assert "Begin" in git("-C", str(tmp_path / "second"), "log")
    assert {request.resource for request in in_cloud_shell.requests} == {DEVOPS}
    assert git.repositories.passwords


def test_a_url_with_a_user_name_works_too(git: Git, tmp_path: Path) -> None:
    # As Azure DevOps shows it: https://ORGANIZATION@dev.azure.com/…
    git("config", "--global", f"credential.{git.url('dev.azure.com')}.helper", HELPER)
    url = git.url("dev.azure.com").replace("https://", "https://contoso@")
    git("clone", "--quiet", f"{url}/contoso", str(tmp_path / "first"))


def test_a_refused_token_ends_in_gits_own_error(git: Git, tmp_path: Path) -> None:
    git.repositories.refuses = True
    git("config", "--global", f"credential.{git.url('dev.azure.com')}.helper", HELPER)
    said = git("clone", f"{git.url('dev.azure.com')}/contoso", str(tmp_path / "first"), is_refused=True)
    assert "Authentication failed" in said
    assert "azure-cloudshell" not in said
    assert "eyJ" not in said


def test_another_host_is_not_sent_the_token(git: Git, in_cloud_shell: CloudShellEmulator, tmp_path: Path) -> None:
    git("config", "--global", "credential.helper", HELPER)
    said = git("clone", f"{git.url('evil.example')}/contoso", str(tmp_path / "first"), is_refused=True)
    assert f"No token for https://evil.example:{git.port}: only https://dev.azure.com" in said
    assert git.repositories.passwords == []
    assert in_cloud_shell.requests == []


@pytest.mark.parametrize(
    "host",
    [
        "protocol=http\nhost=dev.azure.com",
        *(
            f"protocol=https\nhost={host}"
            for host in (
                "dev.azure.com.evil",
                "dev.azure.com:443@evil.example",
                "dev.azure.com:x",
                "evil.example#.visualstudio.com",
                "evil.example/.visualstudio.com",
                "evil.example?.visualstudio.com",
                "evil.example\\.visualstudio.com",
                "x@evil.visualstudio.com",
                ".visualstudio.com",
                "evilvisualstudio.com",
            )
        ),
        "",
        "x",
    ],
)
def test_what_git_asks_for_is_read_strictly(in_cloud_shell: CloudShellEmulator, host: str) -> None:
    done = subprocess.run(
        [*COMMAND, *HELPER.split()[1:], "get"], input=host, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert in_cloud_shell.requests == []


def test_without_git_it_prints_what_git_would_read(in_cloud_shell: CloudShellEmulator) -> None:
    expected, expires_on = in_cloud_shell.issue(DEVOPS)
    for words in ("devops -o git-credential", "-o git-credential"):
        lines = run("token", *words.split()).stdout.splitlines()
        assert lines == ["username=azure-cloudshell", f"password={expected}", f"password_expiry_utc={expires_on}"]


def test_the_words_that_git_adds_mean_nothing_in_other_forms(in_cloud_shell: CloudShellEmulator) -> None:
    done = run("token", "vault", "get")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--output git-credential" in done.stderr
    assert in_cloud_shell.requests == []
