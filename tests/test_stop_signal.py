"""How ``serve`` and ``emulate`` wait for Ctrl-C: it may come at any moment."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The signal comes at one line after another of what waits, in this package and in the modules it calls.
PROGRAM = """
import os, signal, sys
from azure_cloudshell_credential._cli._foreground import stop_signal

line = int(sys.argv[1])
lines = 0

def trace(*_):
    global lines
    lines += 1
    if lines == line:
        signal.raise_signal(signal.SIGINT)
    return trace

wait = stop_signal()
# It waits already when this comes.
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
signal.setitimer(signal.ITIMER_REAL, 0.1)
sys.settrace(trace)
wait()
sys.settrace(None)
# Python takes its handlers out before it ends.
signal.setitimer(signal.ITIMER_REAL, 0)
print("was told at a line" if lines >= line else "was told while it waited")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs setitimer")
def test_it_may_come_at_any_moment() -> None:
    for line in range(1, 100):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(line)],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        if done.stdout == "was told while it waited\n":
            break
    assert line > 1
    assert done.stdout == "was told while it waited\n"
