"""Fixtures for all tests, and the one promise that all of them keep: no token is ever shown."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import re
import stat
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import jwt
import pytest
from hypothesis import HealthCheck, settings

from azure_cloudshell_credential import CloudShellCredential, _base, _errors
from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .azurite import Azurite
from .azurite import start as start_azurite
from .misbehaving import Behaviour, MisbehavingServer

settings.register_profile(
    "deterministic",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("deterministic")

T = TypeVar("T")

ARM = "https://management.azure.com/.default"
CANARY = "canary-token-that-nobody-may-see"
SECRET = re.compile(rf"eyJ[\w-]{{8,}}\.[\w-]{{8,}}|{CANARY}")

_VARIABLES = re.compile(
    r"(ACC|AZD|AZURE|IDENTITY|IMDS|MSI)_.*|AZUREPS_HOST_ENVIRONMENT|POWERSHELL_DISTRIBUTION_CHANNEL|.*_PROXY|"
    r"REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|SSL_CERT_FILE",
    re.IGNORECASE,
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of Cloud Shell, of azure-identity or of a proxy; and nothing beyond loopback."""
    for name in os.environ:
        if _VARIABLES.fullmatch(name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("AZURE_CORE_COLLECT_TELEMETRY", "false")


class Everything(logging.Handler):
    """Keeps what every logger says, at every level."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Everything]:
    """Log everything, and check after each test that no log, error, repr or pickle of it shows a token."""
    credentials: list[Any] = []
    errors: list[Exception] = []
    configure, as_exception = _base.CredentialBase._configure, _errors.as_exception

    def configure_and_keep(self: Any, options: dict[str, Any]) -> None:
        credentials.append(self)
        configure(self, options)
        self._options = {"logging_enable": True, **self._options}

    def make_and_keep(failure: Any) -> Any:
        errors.append(as_exception(failure))
        return errors[-1]

    monkeypatch.setattr(_base.CredentialBase, "_configure", configure_and_keep)
    monkeypatch.setattr(_errors, "as_exception", make_and_keep)
    everything = Everything()
    root = logging.getLogger()
    level = root.level
    root.addHandler(everything)
    root.setLevel(logging.DEBUG)
    yield everything
    root.removeHandler(everything)
    root.setLevel(level)
    shown = [*everything.lines]
    for thing in (*credentials, *errors):
        shown += [repr(thing), str(thing), repr(getattr(thing, "__dict__", ""))]
        # Pickles of what holds a test's own lambda or mock fail, which shows nothing either.
        with suppress(Exception):
            shown.append(pickle.dumps(thing).decode("latin-1"))
    for text in shown:
        assert not SECRET.search(text), "a token was shown"


@pytest.fixture(scope="session")
def _emulator() -> Iterator[CloudShellEmulator]:
    with CloudShellEmulator() as shell:
        yield shell


@pytest.fixture
def shell(_emulator: CloudShellEmulator) -> Iterator[CloudShellEmulator]:
    """The emulator, as good as new."""
    _emulator.reset()
    yield _emulator
    _emulator.reset()


@pytest.fixture
def in_cloud_shell(shell: CloudShellEmulator) -> Iterator[CloudShellEmulator]:
    """The emulator, with this process inside the Cloud Shell it emulates."""
    with shell.as_environment():
        yield shell


@pytest.fixture
def on_the_default_port() -> Iterator[CloudShellEmulator]:
    """An emulator where tools with the address built in look for it."""
    try:
        shell = CloudShellEmulator(port=50342).start()
    except OSError:
        pytest.skip("port 50342 is in use")
    yield shell
    shell.stop()


@pytest.fixture
def misbehaving() -> Iterator[Callable[[Behaviour], MisbehavingServer]]:
    """Starts servers that misbehave."""
    servers: list[MisbehavingServer] = []

    def start(behaviour: Behaviour) -> MisbehavingServer:
        servers.append(MisbehavingServer(behaviour).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__()


@pytest.fixture
def fake_az(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An ``az`` on PATH whose user is logged in. Returns its token."""
    token = "token-of-the-fake-az"
    folder = tmp_path / "bin"
    folder.mkdir()
    az = folder / "az"
    az.write_text(
        f"#!{sys.executable} -IS\n"
        "import sys, time\n"
        "if 'show' in sys.argv:\n"
        '    print(\'{"name": "Contoso", "tenantId": "t", "user": {"name": "linus@contoso.example"}}\')\n'
        "    raise SystemExit\n"
        "expires = int(time.time()) + 3600\n"
        'print(\'{"accessToken": "%s", "expires_on": %d, "expiresOn": "2999-01-01 00:00:00.000000"}\''
        f" % ({token!r}, expires))\n"
    )
    az.chmod(az.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return token


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a token, read by a library that is not ours."""
    return dict(jwt.decode(token, options={"verify_signature": False}))


def run_with_tls(main: Coroutine[Any, Any, T]) -> T:
    """Run what uses aiohttp over TLS, and give its connections the time to close that its documentation asks for."""

    async def run() -> T:
        try:
            return await main
        finally:
            await asyncio.sleep(0.25)

    return asyncio.run(run())


class Sync:
    """The sync credential, driven as a test says it."""

    name = "sync"

    def __init__(self, **options: Any) -> None:
        self.credential = CloudShellCredential(**options)

    def get_token(self, *scopes: str, **options: Any) -> Any:
        return self.credential.get_token(*scopes, **options)

    def get_token_info(self, *scopes: str, **options: Any) -> Any:
        return self.credential.get_token_info(*scopes, **options)

    def chained_with_az(self) -> Any:
        from azure.identity import AzureCliCredential, ChainedTokenCredential

        return ChainedTokenCredential(self.credential, AzureCliCredential()).get_token(ARM)


class Async:
    """The async credential, driven the same way; each call in an event loop of its own."""

    name = "async"

    def __init__(self, **options: Any) -> None:
        self.credential = AsyncCloudShellCredential(**options)

    def get_token(self, *scopes: str, **options: Any) -> Any:
        return asyncio.run(self.credential.get_token(*scopes, **options))

    def get_token_info(self, *scopes: str, **options: Any) -> Any:
        return asyncio.run(self.credential.get_token_info(*scopes, **options))

    def chained_with_az(self) -> Any:
        from azure.identity.aio import AzureCliCredential, ChainedTokenCredential

        async def get() -> Any:
            return await ChainedTokenCredential(self.credential, AzureCliCredential()).get_token(ARM)

        return asyncio.run(get())


class AsyncWithoutAiohttp(Async):
    """The async credential where aiohttp is not installed."""

    name = "async without aiohttp"


@pytest.fixture(params=[Sync, Async, AsyncWithoutAiohttp], ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class of credential under test; a test that takes it runs for each."""
    if request.param is AsyncWithoutAiohttp:
        from azure_cloudshell_credential.aio import _credential, _transport

        monkeypatch.setattr(_credential, "default_transport", _transport.LoopbackTransport)
    return request.param


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """A real blob service that checks tokens."""
    service, process = start_azurite(tmp_path_factory.mktemp("azurite"))
    yield service
    process.terminate()
    process.wait(10)
