"""Clients in environments of their own: no two versions of a package fit into one. ``make clients`` installs them.

python -m tests.clients
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / ".clients"

ENVIRONMENTS = {
    "azure-identity-1.27": ["azure-identity==1.27.0", "aiohttp"],
    "azure-identity-1.16": ["azure-identity==1.16.0", "aiohttp"],
    # The first with a form of App Service's whose expiry is a date; it needs what it took for granted.
    "azure-identity-1.5": ["azure-identity==1.5.0", "aiohttp", "azure-core<1.30", "requests", "setuptools<81"],
    "data": ["deltalake==1.6.6", "obstore==0.12.1", "polars==2.1.0", "pyarrow==26.0.1"],
}
"""Their names, and what is installed in each."""


def python_of(name: str) -> str:
    """The interpreter of an environment, or a skip that says why."""
    program = FOLDER / name / "bin" / "python"
    if not (FOLDER / name / ".installed").exists():
        pytest.skip(f"needs {' '.join(ENVIRONMENTS[name])}: make clients")
    return str(program)


def main() -> int:
    """Install what is not installed as it is listed here."""
    for name, packages in ENVIRONMENTS.items():
        stamp = FOLDER / name / ".installed"
        if not stamp.exists() or stamp.read_text() != repr(packages):
            venv.create(FOLDER / name, clear=True, with_pip=True)
            pip = [str(FOLDER / name / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]
            subprocess.run([*pip, "--disable-pip-version-check"], check=True)
            stamp.write_text(repr(packages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
