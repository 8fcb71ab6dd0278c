"""Fixtures for all tests, and the one promise that all of them keep: no token is ever shown."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import re
import signal
import stat
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial, wraps
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import jwt
import pytest
import trio
from hypothesis import HealthCheck, settings

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential._azure import cloud_shell, errors
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
VAULT = "https://vault.azure.net/.default"
CANARY = "canary-token-that-nobody-may-see"
SECRET = re.compile(rf"eyJ[\w-]{{8,}}\.[\w-]{{8,}}|{CANARY}")

_VARIABLES = re.compile(
    r"(ACC|AZD|AZURE|IDENTITY|IMDS|MSI)_.*|AZUREPS_HOST_ENVIRONMENT|POWERSHELL_DISTRIBUTION_CHANNEL|.*_PROXY|"
    r"REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|SSL_CERT_FILE|NODE_EXTRA_CA_CERTS|NODE_USE_ENV_PROXY",
    re.IGNORECASE,
)

# A shell lets its background jobs ignore these, and every program that a test starts would inherit it.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


ON_PORT_50342 = pytest.mark.xdist_group("port 50342")
"""Of the tests with this mark, no two run at once."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks that follow from the fixtures of a test."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "azurite" in fixtures:
            item.add_marker(pytest.mark.clients)
        if "on_the_default_port" in fixtures:
            item.add_marker(ON_PORT_50342)
        if "seasoned" in fixtures:
            # The token ages once.
            item.add_marker(pytest.mark.xdist_group("seasoned"))
    # First, while few connections have been closed: a client's may have had that port, and keeps it for a minute.
    items.sort(key=lambda item: ON_PORT_50342.mark not in item.iter_markers())


@pytest.fixture(scope="session")
def _no_imds() -> Iterator[dict[str, str]]:
    """What leads to an address that is at once no virtual machine's: azure-identity waits seconds for a silent one."""
    with CloudShellEmulator() as shell:
        yield shell.no_imds_environment


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, _no_imds: dict[str, str]) -> None:
    """No variable of Cloud Shell, of azure-identity or of a proxy; and nothing beyond loopback."""
    for name in os.environ:
        if _VARIABLES.fullmatch(name):
            monkeypatch.delenv(name)
    for name, value in _no_imds.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AZURE_CORE_COLLECT_TELEMETRY", "false")


class Everything(logging.Handler):
    """Keeps what every logger says, at every level."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


WITH_AND_WITHOUT_LOGGING = pytest.mark.parametrize("logs_requests", [False, True], ids=["default", "logging_enable"])
"""Of tests that run twice: what is in a log is looked at in both."""


@pytest.fixture
def logs_requests() -> bool:
    """Whether credentials log their requests, as with ``logging_enable=True``; by default they do not."""
    return False


@pytest.fixture(autouse=True)
def log(logs_requests: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Everything]:
    """Log everything, and check after each test that no log, error, repr or pickle of it shows a token."""
    credentials: list[Any] = []
    made: list[Exception] = []
    make, as_exception = cloud_shell.FromCloudShell.__init__, errors.as_exception

    @wraps(make)
    def make_and_keep(self: Any, **options: Any) -> None:
        credentials.append(self)
        make(self, **({"logging_enable": True, **options} if logs_requests else options))

    def raise_and_keep(failure: Any, message: str) -> Any:
        made.append(as_exception(failure, message))
        return made[-1]

    monkeypatch.setattr(cloud_shell.FromCloudShell, "__init__", make_and_keep)
    monkeypatch.setattr(errors, "as_exception", raise_and_keep)
    everything = Everything()
    root = logging.getLogger()
    level = root.level
    root.addHandler(everything)
    root.setLevel(logging.DEBUG)
    yield everything
    root.removeHandler(everything)
    root.setLevel(level)
    shown = [("the log", line) for line in everything.lines]
    for thing in (*credentials, *made):
        where = type(thing).__name__
        shown += [(f"repr of {where}", repr(thing)), (f"str of {where}", str(thing))]
        shown.append((f"attributes of {where}", repr(getattr(thing, "__dict__", ""))))
        # Pickles of what holds a test's own lambda or mock fail, which shows nothing either.
        with suppress(Exception):
            shown.append((f"pickle of {where}", pickle.dumps(thing).decode("latin-1")))
    for where, text in shown:
        if match := SECRET.search(text):
            pytest.fail(f"a token was shown in {where}: {text[: match.start()][-200:]}<token>")


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
    deadline = time.monotonic() + 30
    while True:
        try:
            shell = CloudShellEmulator(port=50342).start()
            break
        except OSError:
            # It is in the range that the system gives out: a connection may have it for a moment.
            if time.monotonic() > deadline:
                pytest.skip("port 50342 is in use")
            time.sleep(0.1)
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


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run work in threads that start together; what it raised counts as its result."""
    go = Event()

    def run(index: int) -> Any:
        go.wait()
        try:
            return work(index)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(run, index) for index in range(count)]
        go.set()
        return [future.result() for future in futures]


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


def waited(outcome: Any) -> Any:
    """What a call returned, awaited if it is asynchronous."""
    return asyncio.run(outcome) if hasattr(outcome, "__await__") else outcome


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


class Trio(Async):
    """The async credential on trio; each call in a run of its own."""

    name = "trio"

    def get_token(self, *scopes: str, **options: Any) -> Any:
        return trio.run(partial(self.credential.get_token, *scopes, **options))

    def get_token_info(self, *scopes: str, **options: Any) -> Any:
        return trio.run(partial(self.credential.get_token_info, *scopes, **options))

    def chained_with_az(self) -> Any:
        from azure.identity.aio import ChainedTokenCredential

        # azure-identity's own AzureCliCredential starts az with asyncio.
        return trio.run(ChainedTokenCredential(self.credential, AzOnTrio()).get_token, ARM)


class AzOnTrio:
    """The synchronous ``AzureCliCredential``, in a thread."""

    async def get_token(self, *scopes: str, **options: Any) -> Any:
        from azure.identity import AzureCliCredential

        return await trio.to_thread.run_sync(lambda: AzureCliCredential().get_token(*scopes, **options))

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> AzOnTrio:
        return self

    async def __aexit__(self, *args: object) -> None:
        pass


@pytest.fixture(params=[Sync, Async, Trio], ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Any:
    """The class of credential under test; a test that takes it runs for each."""
    return request.param


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """A real blob service that checks tokens."""
    service, process = start_azurite(tmp_path_factory.mktemp("azurite"))
    yield service
    process.terminate()
    process.wait(10)
