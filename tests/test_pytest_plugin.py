"""The pytest plugin, as a stranger's project meets it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from azure_cloudshell_credential import CloudShellCredential, pytest_plugin
from azure_cloudshell_credential.emulator import CloudShellEmulator

from . import outside
from .conftest import ON_PORT_50342
from .developer import sign_in_to_shared_cache, sign_in_to_visual_studio_code

pytestmark = pytest.mark.slow

DOWNSTREAM = Path(__file__).parent / "downstream"


NUMBER_OF_TESTS = 30


def run_pytest(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of a project; none of them asks for anything outside this machine."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null", *arguments, str(folder)]
    with TemporaryDirectory() as place:
        record = Path(place) / "record"
        done = subprocess.run(
            command if outside.why_not() else outside.inside(record, *command),
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if record.exists():
            assert json.loads(record.read_text()) == []
    return done


REVERSED = """
def pytest_collection_modifyitems(items):
    items.reverse()
"""


@pytest.mark.parametrize("order", ["as written", "reversed", "in two processes"])
def test_a_downstream_project_passes_and_never_meets_the_developers_own_sign_ins(
    order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = shutil.copytree(DOWNSTREAM, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__"))
    if order == "reversed":
        (project / "conftest.py").write_text(REVERSED)
    called = tmp_path / "called"
    for name in ("az", "azd", "pwsh"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {called}\n')
        program.chmod(0o755)
    profile = tmp_path / "home" / ".azure" / "azureProfile.json"
    profile.parent.mkdir(parents=True)
    profile.write_text('{"subscriptions": [{"id": "the-developers-own", "isDefault": true, "tenantId": "t"}]}')
    environment = {
        "HOME": str(tmp_path / "home"),
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "AZURE_CLIENT_ID": "the-developers-own",
        "AZURE_CLIENT_SECRET": "the-developers-own",
        "AZURE_TENANT_ID": "the-developers-own",
        "AZURE_SUBSCRIPTION_ID": "the-developers-own",
        "AZURE_TOKEN_CREDENTIALS": "prod",
        "MSI_SECRET": "the-developers-own",
    }
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST")
    workers = ["-p", "xdist", "-n", "2"] if order == "in two processes" else ["-p", "no:xdist"]
    strict = ("-W", "error", "-o", "asyncio_default_fixture_loop_scope=function")
    done = run_pytest(project, *strict, *workers, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{NUMBER_OF_TESTS} passed" in done.stdout
    assert not called.exists(), called.read_text()


IDENTITY_BROKER = """
import sys, types
from azure.core.credentials import AccessToken, AccessTokenInfo

class InteractiveBrowserBrokerCredential:
    def __init__(self, **kwargs): pass
    def get_token(self, *scopes, **kwargs): return AccessToken("the-developers-own", 2**40)
    def get_token_info(self, *scopes, **kwargs): return AccessTokenInfo("the-developers-own", 2**40)

sys.modules["azure.identity.broker"] = module = types.ModuleType("azure.identity.broker")
module.InteractiveBrowserBrokerCredential = InteractiveBrowserBrokerCredential
"""
NOBODY_ELSE = """
import asyncio
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import DefaultAzureCredential
from azure_cloudshell_credential import DefaultCloudShellCredential
from azure_cloudshell_credential.aio import DefaultCloudShellCredential as Async

VAULT = "https://vault.azure.net/.default"

def nobody_has_a_token(shell, caplog):
    shell.deny("vault")
    with pytest.raises(ClientAuthenticationError):
        DefaultCloudShellCredential().get_token(VAULT)
    with pytest.raises(ClientAuthenticationError):
        asyncio.run(Async().get_token(VAULT))
    with pytest.raises(ClientAuthenticationError):
        DefaultAzureCredential(exclude_managed_identity_credential=True).get_token(VAULT)
    assert "Incomplete environment" not in caplog.text

def test_inside(cloud_shell, caplog):
    nobody_has_a_token(cloud_shell, caplog)

def test_with_azure(cloud_shell_azure, caplog):
    nobody_has_a_token(cloud_shell_azure.shell, caplog)

def test_outside():
    import azure.identity.broker
"""


@pytest.mark.parametrize("place", ["shared cache", "Visual Studio Code"])
def test_a_chain_finds_no_sign_in_of_the_developers_in_their_home(place: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "test_it.py").write_text(NOBODY_ELSE)
    (project / "conftest.py").write_text(IDENTITY_BROKER)
    if place == "shared cache":
        sign_in_to_shared_cache(tmp_path, "https://vault.azure.net/.default")
    else:
        sign_in_to_visual_studio_code(tmp_path)
    done = run_pytest(project, HOME=str(tmp_path), LOCALAPPDATA=str(tmp_path))
    assert "3 passed" in done.stdout, done.stdout


LEFT_IN_FLIGHT = """
import threading, pytest
from azure_cloudshell_credential import CloudShellCredential
credential = CloudShellCredential()

@pytest.mark.parametrize("number", range(150))
def test_it(cloud_shell, number):
    threading.Thread(target=lambda: credential.get_token("https://vault.azure.net/.default")).start()
    cloud_shell.latency = 0.02
"""


def test_what_is_left_in_flight_may_be_about_to_start(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(LEFT_IN_FLIGHT)
    # Some of these threads come after the fixture, and fail as outside of Cloud Shell.
    done = run_pytest(tmp_path, "-W", "ignore")
    assert "150 passed" in done.stdout, done.stdout
    assert "error" not in done.stdout.splitlines()[-1]


def test_the_fixture_is_listed_with_its_documentation() -> None:
    done = run_pytest(DOWNSTREAM, "--fixtures")
    assert "cloud_shell -- " in done.stdout
    assert "An emulated Cloud Shell, with this process inside it" in done.stdout


def test_merely_having_it_installed_imports_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_other():\n"
        "    ours = {name for name in sys.modules if name.startswith('azure')}\n"
        "    assert ours <= {'azure_cloudshell_credential', 'azure_cloudshell_credential._version',\n"
        "                    'azure_cloudshell_credential.pytest_plugin'}, ours\n"
        "    assert not {'aiohttp', 'jwt', 'cryptography'} & sys.modules.keys()\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout


def test_without_the_emulators_extra_the_fixture_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("import sys\nsys.modules['jwt'] = None\n")
    (tmp_path / "test_other.py").write_text("def test_other(cloud_shell):\n    pass\n")
    done = run_pytest(tmp_path)
    assert done.returncode == 1
    assert "pip install 'azure-cloudshell-credential[emulator]'" in done.stdout


def test_the_fixture_works_in_process(cloud_shell: CloudShellEmulator) -> None:
    assert CloudShellCredential().get_token("https://management.azure.com/.default").token
    assert len(cloud_shell.requests) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_it_is_as_good_as_new_for_each_test(cloud_shell: CloudShellEmulator, count: int) -> None:
    assert cloud_shell.requests == []
    cloud_shell.deny("https://management.azure.com/")


AT_MODULE_LEVEL = """
import pytest
from azure_cloudshell_credential import CloudShellCredential, pytest_plugin
from azure_cloudshell_credential.emulator import faults

SCOPE = "https://vault.azure.net/.default"
credential = CloudShellCredential()

@pytest.fixture(scope="session")
def token(cloud_shell_session):
    return CloudShellCredential().get_token(SCOPE)

def test_a_credential_made_before(cloud_shell):
    assert credential.get_token(SCOPE).token
    assert credential.endpoint == cloud_shell.endpoint

def test_a_fixture_of_the_session(token):
    assert token.token

def test_no_real_pauses(cloud_shell):
    import time
    start = time.monotonic()
    with cloud_shell.failing(faults.portal_timeout()), pytest.raises(Exception, match="Asked . times"):
        CloudShellCredential().get_token(SCOPE)
    assert CloudShellCredential().get_token(SCOPE).token
    assert time.monotonic() - start < 5

def test_the_documented_port(cloud_shell_on_default_port):
    assert cloud_shell_on_default_port.endpoint == "http://localhost:50342/oauth2/token"

def test_outside():
    pass
"""


@ON_PORT_50342
def test_credentials_made_before_sessions_and_the_documented_port(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(AT_MODULE_LEVEL)
    done = run_pytest(tmp_path)
    assert "5 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("option", [["--disable-socket"], ["-p", "no:pytest_socket"]])
def test_where_sockets_are_forbidden_it_says_so(tmp_path: Path, option: list[str]) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(cloud_shell):\n    pass\n")
    done = run_pytest(tmp_path, *option)
    if option == ["--disable-socket"]:
        assert "--allow-hosts=127.0.0.1,localhost" in done.stdout
    else:
        assert "1 passed" in done.stdout


def test_a_port_that_is_taken_for_a_moment_is_waited_for() -> None:
    holder = CloudShellEmulator().start()
    threading.Timer(0.3, holder.stop).start()
    with pytest_plugin._started(holder.port) as shell:
        assert CloudShellCredential(endpoint=shell.endpoint).get_token("https://vault.azure.net/.default").token


def test_a_port_that_stays_taken_is_an_error(mocker: Any) -> None:
    mocker.patch.object(pytest_plugin, "_PORT_SECONDS", 0.2)
    with (
        CloudShellEmulator() as holder,
        pytest.raises(OSError, match="is in use"),
        pytest_plugin._started(holder.port),
    ):
        pass
