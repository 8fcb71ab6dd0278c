"""Build what a release holds into dist/ and check it: ``make wheel``.

- Wheel, source distribution and the one file come out byte for byte the same when they are built again elsewhere.
- The wheel carries its bill of materials, and its description no link that works only beside the repository's files.
- From a folder of downloaded packages and a list of their hashes pip installs it without an index; the main job runs.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent.parent
DIST = ROOT / "dist"
HASHES = "requirements.txt"
LOCAL_LINK = re.compile(r"\]\((?!https?://|#)[^)]*\)")
MADE_HERE = (
    ".git",
    ".venv",
    ".az",
    ".clients",
    ".node",
    ".*_cache",
    ".hypothesis",
    "__pycache__",
    "dist",
    "build",
    "site",
)


def run(*command: str | Path, **variables: str) -> None:
    """Run a command to its end, and end with it if it fails."""
    subprocess.run([str(word) for word in command], check=True, env={**os.environ, **variables})


def build(root: Path, target: Path) -> None:
    """Wheel, source distribution and the one file, from the sources in a folder."""
    tools = [sys.executable, "-m"]
    run(*tools, "build", "--quiet", "--no-isolation", "--outdir", target, root)
    run(sys.executable, root / ".ci" / "release" / "one_file.py", target / "azure-cloudshell.pyz")


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def check_that_it_can_be_built_again() -> None:
    """Build a copy whose files are all of today."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "another place"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*MADE_HERE), copy_function=shutil.copy)
        build(copy, Path(folder) / "dist")
        first, second = hashes(DIST), hashes(Path(folder) / "dist")
    if first != second:
        sys.exit(f"not reproducible: {sorted(name for name in first if first[name] != second.get(name))}")


def check_metadata(wheel: Path) -> None:
    """What the wheel says of itself."""
    run(sys.executable, "-m", "twine", "check", "--strict", *(DIST / name for name in (wheel.name, sdist().name)))
    run(Path(sys.executable).parent / "check-wheel-contents", wheel)
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        if links := LOCAL_LINK.findall(archive.read(metadata).decode()):
            sys.exit(f"links that lead nowhere on the package index: {links}")
        if not any("/sboms/" in name for name in archive.namelist()):
            sys.exit("the wheel has no bill of materials")


def check_installation(wheel: Path) -> None:
    """Install from a folder and a list of hashes, as on a machine that reaches no index."""
    environment = ROOT / ".venv" / "wheel"
    wheels = environment / "wheels"
    shutil.rmtree(environment, ignore_errors=True)
    run(sys.executable, "-m", "venv", environment)
    pip: list[str | Path] = [environment / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "download", "--dest", wheels, "--only-binary", ":all:", f"{wheel}[emulator]", "azure-mgmt-compute")
    pins = [f"{_requirement(name)} --hash=sha256:{digest}" for name, digest in hashes(wheels).items()]
    (environment / HASHES).write_text("\n".join([*pins, ""]), encoding="utf-8")
    offline: list[str | Path] = ["--no-index", "--find-links", wheels, "--require-hashes"]
    run(*pip, "install", *offline, "--requirement", environment / HASHES)
    programs = environment / "bin"
    emulate = [str(programs / "azure-cloudshell"), "emulate", "--port", "0", "--with-azure", "--"]
    run(*emulate, programs / "python", ROOT / "examples" / "list_virtual_machines.py")


def _requirement(file: str) -> str:
    name, version, *_ = file.split("-")
    return f"{name}=={version}"


def sdist() -> Path:
    """The source distribution."""
    (file,) = DIST.glob("*.tar.gz")
    return file


def main() -> None:
    """Build, check, and say what was built."""
    shutil.rmtree(DIST, ignore_errors=True)
    build(ROOT, DIST)
    (wheel,) = DIST.glob("*.whl")
    check_that_it_can_be_built_again()
    check_metadata(wheel)
    check_installation(wheel)
    for name, digest in hashes(DIST).items():
        print(f"{digest}  {name}")


if __name__ == "__main__":
    main()
