"""Another user of this machine, who listens on a port of ``::1`` that somebody else has on ``127.0.0.1``."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

# Another user may not be able to load the interpreter, which can lie in a home folder: the program starts as this user.
_PROGRAM = """
import os, select, socket, sys
if os.geteuid() == 0:
    os.setuid(65534)
listener = socket.socket(socket.AF_INET6)
listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("::1", int(sys.argv[1])))
listener.listen()
print(listener.getsockname()[1], flush=True)
asked = 0
while listener in select.select([listener, sys.stdin], [], [])[0]:
    listener.accept()[0].close()
    asked += 1
print("asked:", asked)
"""

SQUAT = [sys.executable, "-IS", "-c", _PROGRAM]
"""The command, to which a port is added. It prints the port, and how often it was asked once its stdin has ended."""


def has_ipv6() -> bool:
    """Whether this machine has ``::1``."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture
def squatter() -> Iterator[int]:
    """The port on which another user listens."""
    with subprocess.Popen([*SQUAT, "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate()
