"""Clients in environments of their own: no two versions of a package fit into one. ``make clients`` installs them.

python -m tests.clients
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / ".clients"

ENVIRONMENTS = {
    "azure-identity-1.27": ["azure-identity==1.27.0", "aiohttp"],
    # The first that reads AZURE_TOKEN_CREDENTIALS, and one that does not.
    "azure-identity-1.23": ["azure-identity==1.23.0"],
    "azure-identity-1.21": ["azure-identity==1.21.0"],
    "azure-identity-1.16": ["azure-identity==1.16.0", "aiohttp"],
    # The first with a form of App Service's whose expiry is a date; it needs what it took for granted.
    "azure-identity-1.5": ["azure-identity==1.5.0", "aiohttp", "azure-core<1.30", "requests", "setuptools<81"],
    "data": ["deltalake==1.6.6", "obstore==0.12.1", "polars==2.1.0", "pyarrow==26.0.1"],
    "feeds": ["artifacts-keyring-nofuss==1.3.3", "keyring==25.7.0", "uv==0.13.9"],
    # A server to which ssh connects.
    "ssh": ["asyncssh==2.24.1"],
}
"""Those of Python: their names, and what is installed in each."""

NODE_ENVIRONMENTS = {"azure-identity-js-4.14": ["@azure/identity@4.14.1", "node@22.23.3"]}
"""Those of Node.js, each with a Node of its own."""


def python_of(name: str) -> str:
    """The interpreter of an environment, or a skip that says why."""
    program = FOLDER / name / "bin" / "python"
    if not (FOLDER / name / ".installed").exists():
        pytest.skip(f"needs {' '.join(ENVIRONMENTS[name])}: make clients")
    return str(program)


def node_of(name: str) -> tuple[str, Path]:
    """The Node of an environment and the folder of its packages, or a skip that says why."""
    if not (FOLDER / name / ".installed").exists():
        pytest.skip(f"needs {' '.join(NODE_ENVIRONMENTS[name])} from npm: make clients")
    modules = FOLDER / name / "node_modules"
    return str(modules / "node" / "bin" / "node"), modules


def main() -> int:
    """Install what is not installed as it is listed here."""
    for name, packages in (ENVIRONMENTS | NODE_ENVIRONMENTS).items():
        folder = FOLDER / name
        stamp = folder / ".installed"
        if stamp.exists() and stamp.read_text() == repr(packages):
            continue
        if name in NODE_ENVIRONMENTS:
            shutil.rmtree(folder, ignore_errors=True)
            npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]
            subprocess.run([*npm, *packages], check=True)
        else:
            venv.create(folder, clear=True, with_pip=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *packages], check=True)
        stamp.write_text(repr(packages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
