"""Write the one file of a release: ``python .ci/release/one_file.py build/azure-cloudshell.pyz``.

The same sources give the same bytes, on any machine and with any Python: entries are sorted and stored as they are, and
times and permissions are fixed. ``zipapp`` of the standard library keeps those of the files it finds.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

ROOT = Path(__file__).parent.parent.parent
PACKAGE = "azure_cloudshell_credential"
INTERPRETER = b"#!/usr/bin/env python3\n"
MAIN = f"import {PACKAGE}.__main__\n".encode()
LONG_AGO = 1580601600
"""2020-02-02, as hatchling has it in wheels. A zip file cannot hold a time before 1980."""


def files() -> Iterator[tuple[str, bytes]]:
    """What the file holds, by name."""
    yield "__main__.py", MAIN
    for path in sorted((ROOT / PACKAGE).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(ROOT).as_posix(), path.read_bytes()


def one_file(since_epoch: int) -> bytes:
    """The whole file.

    :param since_epoch: the time of every entry, in seconds of Unix time.
    """
    archive = io.BytesIO()
    with ZipFile(archive, "w", ZIP_STORED) as target:
        for name, content in sorted(files()):
            entry = ZipInfo(name, time.gmtime(since_epoch)[:6])
            entry.create_system = 3  # Unix, whose permissions follow
            entry.external_attr = 0o100644 << 16
            target.writestr(entry, content)
    return INTERPRETER + archive.getvalue()


def main() -> None:
    """Write it where the command line says, ready to be run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("output", type=Path)
    output: Path = parser.parse_args().output
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(one_file(int(os.environ.get("SOURCE_DATE_EPOCH", LONG_AGO))))
    output.chmod(0o755)


if __name__ == "__main__":
    main()
