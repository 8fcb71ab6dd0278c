"""The one file of a release, on a Python without site-packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from azure_cloudshell_credential.emulator import CloudShellEmulator

ROOT = Path(__file__).parent.parent


def write(file: Path, **environment: str) -> Path:
    command = [sys.executable, str(ROOT / ".ci" / "release" / "one_file.py"), str(file)]
    subprocess.run(command, env={**os.environ, **environment}, check=True, timeout=60)
    return file


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("one file") / "azure-cloudshell.pyz")


def run(pyz: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", str(pyz), *arguments],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_prints_a_token(pyz: Path, shell: CloudShellEmulator) -> None:
    done = run(pyz, "token", "vault", **shell.environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(".") == 2
    assert [request.resource for request in shell.requests] == ["https://vault.azure.net"]


def test_it_has_the_doctor_and_the_completions(pyz: Path, shell: CloudShellEmulator) -> None:
    findings = json.loads(run(pyz, "doctor", "--json", **shell.environment).stdout)
    assert findings["works"] is True
    report = json.loads(run(pyz, "doctor", "--report", "-", **shell.environment).stdout)
    assert report["cloud"] == "PROD"
    assert "azure-cloudshell" in run(pyz, "completion", "bash").stdout


def test_it_passes_on_the_exit_status(pyz: Path) -> None:
    done = run(pyz, "token")
    assert done.returncode == 1
    assert done.stderr.startswith("azure-cloudshell: This is not Azure Cloud Shell")


@pytest.mark.parametrize("words", ["run -- true", "serve --port 0", "emulate --port 0 true", "token --fallback"])
def test_what_it_lacks_it_says_how_to_get_from_what_is_published(pyz: Path, words: str) -> None:
    done = run(pyz, *words.split())
    assert done.returncode == 1
    assert done.stderr.startswith("azure-cloudshell: ")
    # By the names of packages, and not of modules.
    assert "azure." not in done.stderr
    assert done.stderr.startswith("azure-cloudshell: This needs ")
    assert ", which is not installed: pip install azure-identity" in done.stderr
    assert ("PyJWT" in done.stderr) == words.startswith("emulate")
    assert "azure-cloudshell-credential" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", ["help", "help token", "run --help", "doctor --help", "version"])
def test_it_explains_itself(pyz: Path, words: str) -> None:
    done = run(pyz, *words.split())
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", ["emulate --port 0 true", "doctor --report -", "token --help"])
def test_only_completions_are_read_from_files(words: str, shell: CloudShellEmulator, tmp_path: Path) -> None:
    # As in a program that PyInstaller has frozen: it has modules, and no other files.
    package = shutil.ignore_patterns("*.bash", "*.fish", "*.zsh", "*.json", "*.typed", "__pycache__")
    shutil.copytree(ROOT / "azure_cloudshell_credential", tmp_path / "azure_cloudshell_credential", ignore=package)
    program = "import sys; from azure_cloudshell_credential import _cli; print(_cli.__file__); sys.exit(_cli.main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *words.split()],
        cwd=tmp_path,
        env={**os.environ, **shell.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))


def test_the_same_sources_give_the_same_bytes(pyz: Path, tmp_path: Path) -> None:
    assert write(tmp_path / "again.pyz").read_bytes() == pyz.read_bytes()
    with zipfile.ZipFile(pyz) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    # Neither the time of a file, nor its permissions, nor what compresses it on this machine.
    assert {(entry.date_time, entry.external_attr, entry.compress_type) for entry in entries} == {
        ((2020, 2, 2, 0, 0, 0), 0o100644 << 16, zipfile.ZIP_STORED)
    }
    dated = write(tmp_path / "dated.pyz", SOURCE_DATE_EPOCH="1700000000")
    with zipfile.ZipFile(dated) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}


def test_it_can_be_run_as_a_program(pyz: Path, shell: CloudShellEmulator) -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **shell.environment}
    done = subprocess.run([str(pyz), "token"], env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count(".") == 2
