"""The credentials that start a program: a new sign-in is noticed, and one program is started at a time."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError

from azure_cloudshell_credential import DefaultCloudShellCredential
from azure_cloudshell_credential.aio import DefaultCloudShellCredential as AsyncDefaultCloudShellCredential
from azure_cloudshell_credential.broker import CloudShellBroker
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .command import eventually, run
from .conftest import ARM, VAULT, in_threads
from .test_chain import QUIET as QUIET_ELSEWHERE

# Its time-outs would be waited for.
QUIET = {**QUIET_ELSEWHERE, "exclude_managed_identity_credential": True}

NAMES = ("servicebus", "search", "eventhubs", "eventgrid", "monitor", "webpubsub")

AZ = """#!{python} -IS
import os, sys, time
folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
log = os.open(folder + "/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.write(log, b"begin\\n")
time.sleep({seconds})
with open(os.environ["AZURE_CONFIG_DIR"] + "/azureProfile.json") as profile:
    user = profile.read()
os.write(log, b"end\\n")
print('{{"accessToken": "token-of-%s", "expires_on": %d}}' % (user, time.time() + 3600))
"""


class Az:
    """An ``az`` on PATH that answers with a token of whoever its profile names, and notes when it runs."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        for name in ("bin", "config"):
            (folder / name).mkdir()
        monkeypatch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)
        monkeypatch.setenv("AZURE_CONFIG_DIR", str(folder / "config"))
        self.takes(0)
        self.sign_in("alice")

    def takes(self, seconds: float) -> None:
        program = self._folder / "bin" / "az"
        program.write_text(AZ.format(python=sys.executable, seconds=seconds))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def sign_in(self, user: str) -> None:
        (self._folder / "config" / "azureProfile.json").write_text(user)

    def has_begun(self) -> bool:
        return (self._folder / "log").exists()

    def log(self) -> list[str]:
        return (self._folder / "log").read_text().split()


@pytest.fixture
def az(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Az:
    return Az(tmp_path, monkeypatch)


def of_sync() -> Callable[[], str]:
    credential = DefaultCloudShellCredential(**QUIET)
    return lambda: credential.get_token(ARM).token


def of_async() -> Callable[[], str]:
    credential = AsyncDefaultCloudShellCredential(**QUIET)
    return lambda: asyncio.run(credential.get_token(ARM)).token


@pytest.mark.parametrize("make", [of_sync, of_async], ids=["sync", "async"])
def test_a_new_sign_in_is_noticed(az: Az, make: Any) -> None:
    token = make()
    assert [token(), token()] == ["token-of-alice", "token-of-alice"]
    az.sign_in("robert")
    assert [token(), token()] == ["token-of-robert", "token-of-robert"]
    # As long a name, in the same file: its time tells.
    az.sign_in("bertha")
    assert token() == "token-of-bertha"
    assert len(az.log()) == 6


def test_a_broker_notices_it_too(az: Az) -> None:
    program = (
        "import os, json, urllib.request as u; "
        "r = u.Request(os.environ['IDENTITY_ENDPOINT'] + '?api-version=2019-08-01&resource=https://search.azure.com', "
        "headers={'X-IDENTITY-HEADER': os.environ['IDENTITY_HEADER']}); "
        "print(json.load(u.build_opener(u.ProxyHandler({})).open(r))['access_token'])"
    )
    with CloudShellBroker(DefaultCloudShellCredential(**QUIET)) as broker:

        def token() -> str:
            environ = broker.child_environment(os.environ)
            return subprocess.run(
                [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
            ).stdout

        assert token() == "token-of-alice\n"
        az.sign_in("bob")
        assert token() == "token-of-bob\n"


def test_cloud_shells_own_tokens_do_not_depend_on_it(in_cloud_shell: CloudShellEmulator, az: Az) -> None:
    credential = DefaultCloudShellCredential(**QUIET)
    first = credential.get_token(ARM).token
    az.sign_in("bob")
    assert credential.get_token(ARM).token == first
    assert len(in_cloud_shell.requests) == 1


def scopes() -> list[str]:
    return [f"https://{name}.azure.net/.default" for name in NAMES]


def test_one_az_is_started_at_a_time(az: Az) -> None:
    az.takes(0.2)
    # Two credentials: az locks its cache for all of a machine.
    credentials = [DefaultCloudShellCredential(**QUIET) for _ in range(2)]
    tokens = in_threads(6, lambda index: credentials[index % 2].get_token(scopes()[index]).token)
    assert tokens == ["token-of-alice"] * 6
    assert az.log() == ["begin", "end"] * 6


def test_the_az_of_run_too(az: Az) -> None:
    az.takes(0.2)
    program = f"""
import os, json, threading, urllib.request as u
def token(name):
    url = os.environ['IDENTITY_ENDPOINT'] + '?api-version=2019-08-01&resource=https://' + name + '.azure.net'
    r = u.Request(url, headers={{'X-IDENTITY-HEADER': os.environ['IDENTITY_HEADER']}})
    print(json.load(u.build_opener(u.ProxyHandler({{}})).open(r))['access_token'])
for name in {NAMES!r}:
    threading.Thread(target=token, args=(name,)).start()
"""
    done = run("run", "--credential", "az", "--", sys.executable, "-c", program)
    assert done.stdout.split() == ["token-of-alice"] * 6, done.stderr
    assert az.log() == ["begin", "end"] * 6


def test_a_hung_az_costs_one_timeout(az: Az) -> None:
    az.takes(60)
    credential = DefaultCloudShellCredential(process_timeout=3, **QUIET)
    outcomes = in_threads(6, lambda index: credential.get_token(scopes()[index]))
    assert {type(outcome) for outcome in outcomes} == {ClientAuthenticationError}
    assert all("did not answer in time" in outcome.message for outcome in outcomes)
    assert az.log() == ["begin"]
    # It is asked again afterwards.
    az.takes(0)
    assert credential.get_token(ARM).token == "token-of-alice"


@pytest.mark.parametrize("longer", [60, None])
def test_a_credential_that_gives_az_longer_does_not_share_the_failure_of_one_that_gives_up(
    az: Az, longer: int | None
) -> None:
    az.takes(2.5)
    credentials = [DefaultCloudShellCredential(process_timeout=seconds, **QUIET) for seconds in (1, longer)]
    impatient = Thread(target=in_threads, args=(1, lambda _: credentials[0].get_token(ARM)))
    impatient.start()
    assert eventually(az.has_begun)
    assert credentials[1].get_token(VAULT).token == "token-of-alice"
    impatient.join()


def test_a_credential_of_the_users_own_starts_as_many_as_it_likes(az: Az) -> None:
    from azure.identity import AzureCliCredential

    method = AzureCliCredential.get_token
    DefaultCloudShellCredential(**QUIET)
    own = AzureCliCredential()
    assert own.get_token.__func__ is method
    assert own.get_token(ARM).token == "token-of-alice"
