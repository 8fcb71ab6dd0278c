"""A program frozen with PyInstaller: one folder, with no installed packages and no files of ours beside the code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from azure_cloudshell_credential.emulator import CloudShellEmulator

from .conftest import claims_of

PROGRAM = """
import sys

from azure_cloudshell_credential import AudienceNotSupportedError, CloudShellCredential
from azure_cloudshell_credential._cli import main

if sys.argv[1:]:
    # As the console script does.
    sys.exit(main())
with CloudShellCredential() as credential:
    print(credential.get_token("https://management.azure.com/.default").token)
    try:
        credential.get_token("https://azconfig.io/.default")
    except AudienceNotSupportedError as error:
        print(error)
"""
NOT_NEEDED = ("aiohttp", "hypothesis", "mypy", "pydantic", "pytest", "trio", "uvloop")
"""Installed for the tests, and found by PyInstaller: freezing them takes as long as all else."""

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("frozen")]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("frozen")
    (folder / "program.py").write_text(PROGRAM)
    subprocess.run(
        [
            *(sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR"),
            *(f"--exclude-module={name}" for name in NOT_NEEDED),
            "program.py",
        ],
        cwd=folder,
        env={**os.environ, "PYINSTALLER_CONFIG_DIR": str(folder / "cache")},
        capture_output=True,
        check=True,
        timeout=600,
    )
    return str(folder / "dist" / "program" / "program")


def run_frozen(program: str, shell: CloudShellEmulator, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *words],
        # Away from this checkout.
        cwd=Path(program).parent,
        env={**os.environ, **shell.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.timeout(660)
def test_it_gets_a_token_and_is_told_why_there_is_none(program: str, shell: CloudShellEmulator) -> None:
    done = run_frozen(program, shell)
    assert done.returncode == 0, done.stderr
    token, error = done.stdout.splitlines()
    assert claims_of(token)["oid"] == shell.identity.object_id
    assert error.startswith("Cloud Shell does not issue tokens for https://azconfig.io")


@pytest.mark.timeout(660)
def test_so_does_the_command_line(program: str, shell: CloudShellEmulator) -> None:
    done = run_frozen(program, shell, "token", "vault")
    assert done.returncode == 0, done.stderr
    assert claims_of(done.stdout.strip())["aud"] == "https://vault.azure.net"
    done = run_frozen(program, shell, "token", "https://azconfig.io")
    assert (done.returncode, done.stdout) == (1, "")
    assert "https://azconfig.io" in done.stderr
    done = run_frozen(program, shell, "doctor")
    assert done.returncode == 0, done.stderr
    assert shell.identity.user in done.stdout
    done = run_frozen(program, shell, "run", "--", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("azure-cloudshell: A frozen azure-cloudshell cannot serve a command")
