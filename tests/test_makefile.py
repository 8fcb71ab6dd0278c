"""What make does before anybody has asked it to do something."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parent.parent / "Makefile"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(folder: Path, *arguments: str) -> str:
    shutil.copy(MAKEFILE, folder)
    # Not what `make test` hands down: a make inside another says which folder it enters.
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(
        ["make", *arguments], cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_listing_the_targets_of_a_checkout_that_has_moved_removes_nothing(tmp_path: Path) -> None:
    stamp = tmp_path / ".venv" / ".pip"
    stamp.parent.mkdir()
    stamp.write_text("/where/it/was\n")
    (tmp_path / ".az").mkdir()
    listed = make(tmp_path, "help")
    assert {"demo", "test", "lint", "docs"} <= {line.split()[0] for line in listed.splitlines()}
    assert stamp.read_text() == "/where/it/was\n"
    assert (tmp_path / ".az").is_dir()


@pytest.mark.parametrize("has_moved", [True, False])
def test_an_environment_is_made_anew_where_the_checkout_has_moved(tmp_path: Path, has_moved: bool) -> None:
    stamp = tmp_path / ".venv" / ".pip"
    stamp.parent.mkdir()
    stamp.write_text("/where/it/was\n" if has_moved else f"{tmp_path}\n")
    commands = make(tmp_path, "--dry-run", ".venv/.pip")
    assert ("venv --clear .venv" in commands) is has_moved


@pytest.mark.parametrize("place", [{}, {"ACC_CLOUD": "PROD"}, {"MSI_ENDPOINT": "http://localhost:50342/oauth2/token"}])
def test_the_demo_is_real_in_cloud_shell_and_sealed_off_elsewhere(tmp_path: Path, place: dict[str, str]) -> None:
    (tmp_path / "pyproject.toml").touch()
    words = make(tmp_path, "--dry-run", "demo", *(f"{name}={value}" for name, value in place.items())).split()
    assert words[-2:] == [".venv/bin/python", "examples/list_virtual_machines.py"]
    assert (words[-7:-2] == ["emulate", "--port", "0", "--with-azure", "--"]) is (not place)
