"""Azurite, a real service that checks tokens: blob storage with OAuth over HTTPS."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

NODE_MODULES = Path(__file__).parent.parent / ".node" / "node_modules"


def needs(package: str) -> Path:
    """The folder of a package from npm, or a skip that says why."""
    if shutil.which("node") is None:
        pytest.skip("needs Node.js and npm, then: make clients")
    if not (NODE_MODULES / package).is_dir():
        pytest.skip(f"needs {package} from npm: make clients")
    return NODE_MODULES / package


@dataclass(frozen=True)
class Azurite:
    account_url: str
    ca_file: str


def start(folder: Path) -> tuple[Azurite, subprocess.Popen[bytes]]:
    """Start Azurite on a free port, with a certificate of a throwaway CA."""
    program = needs("azurite")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    for index, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(str(folder / "cert.pem"), append=index > 0)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *("node", str(program / "dist" / "src" / "blob" / "main.js")),
            *("--oauth", "basic", "--cert", "cert.pem", "--key", "key.pem", "--inMemoryPersistence"),
            *("--blobHost", "127.0.0.1", "--blobPort", str(port), "--skipApiVersionCheck", "--disableTelemetry"),
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return Azurite(f"https://localhost:{port}/devstoreaccount1", str(folder / "ca.pem")), process
    process.kill()
    raise RuntimeError("Azurite did not start")
