"""The command line, run as its users run it: in a process, or on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from typing import Any

COMMAND = [sys.executable, "-m", "azure_cloudshell_credential"]

OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Becomes a program that is alone on its terminal, so that Ctrl-C reaches it."""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What it prints and exits with, its output not on a terminal."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What it shows on a terminal, which is ``COLUMNS`` wide."""
    return _shown(arguments, environment)


def interrupted_after(text: str, *arguments: str, **environment: str) -> str:
    """What it shows on a terminal, on which Ctrl-C is pressed when it has shown a text."""
    return _shown(arguments, environment, text)


def _shown(arguments: Sequence[str], environment: dict[str, str], interrupt_after: str = "") -> str:
    master, slave = pty.openpty()
    columns = int(environment.get("COLUMNS", "100"))
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-ISc", OWN_TERMINAL, *COMMAND, *arguments],
        env={**os.environ, "TERM": "xterm", **environment},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    ) as process:
        os.close(slave)
        output = b""
        while True:
            try:
                received = os.read(master, 65536)
            except OSError:
                break
            if not received:
                break
            output += received
            if interrupt_after and interrupt_after.encode() in output:
                interrupt_after = ""
                os.write(master, b"\x03")
        process.wait(30)
    os.close(master)
    return output.decode().replace("\r\n", "\n")


def eventually(condition: Any, seconds: float = 15) -> Any:
    """What a condition returns once it is true, or when time is up."""
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def without_coverage() -> dict[str, str]:
    """The environment, without what makes a child measure its coverage and import for it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


class Emulate:
    """``azure-cloudshell emulate`` in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "emulate", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.variables: dict[str, str] = {}
        while "POWERSHELL_DISTRIBUTION_CHANNEL" not in self.variables:
            line = self.process.stdout.readline()
            assert line.startswith("export "), line
            name, _, value = line.removeprefix("export ").strip().partition("=")
            self.variables[name] = value

    def stop(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=10)
        return self.process.returncode, errors
