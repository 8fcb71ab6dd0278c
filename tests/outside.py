"""A network namespace whose outside world is a recorder: ``python outside.py RECORD COMMAND …`` runs a command in one.

Every address is local there, so that a connection to any of them arrives at the recorder instead of leaving, and is
written down with the name looked up or the address and port. Loopback works as always.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

_PREPARE = 'ip link set lo up && ip route add local 0.0.0.0/0 dev lo && exec "$@"'
_NAMESPACE = ["unshare", "-rn", "sh", "-c", _PREPARE, "sh"]
_PORTS = (80, 443)


def why_not() -> str | None:
    """Why there can be no such namespace here; None if there can."""
    for program in ("unshare", "ip"):
        if shutil.which(program) is None:
            return f"needs {program}"
    done = subprocess.run([*_NAMESPACE, "true"], capture_output=True, text=True, check=False)
    return f"needs network namespaces: {done.stderr.strip()}" if done.returncode else None


def inside(record: Path, *command: str) -> list[str]:
    """The command line that runs a command inside, and records what it wants of the outside.

    :param record: the file to write: a JSON list.
    """
    return [*_NAMESPACE, sys.executable, __file__, str(record), *command]


def _listen(port: int, seen: list[str]) -> None:
    listener = socket.create_server(("", port))
    while True:
        connection, _ = listener.accept()
        address = connection.getsockname()[0]
        if not address.startswith("127."):
            seen.append(f"{address}:{port}")
        connection.close()


def _listen_for_lookups(seen: list[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("", 53))
        while True:
            query, _ = listener.recvfrom(512)
            name, at = [], 12
            with suppress(IndexError):
                while length := query[at]:
                    name.append(query[at + 1 : at + 1 + length].decode("ascii", "replace"))
                    at += length + 1
            seen.append(f"look-up of {'.'.join(name)}")


def main(record: str, *command: str) -> int:
    """Run the command, and write what was recorded."""
    seen: list[str] = []
    for port in _PORTS:
        Thread(target=_listen, args=(port, seen), daemon=True).start()
    Thread(target=_listen_for_lookups, args=(seen,), daemon=True).start()
    status = subprocess.run(command, check=False).returncode
    # What came last is still being written down.
    time.sleep(0.2)
    Path(record).write_text(json.dumps(seen))
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
