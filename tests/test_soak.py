"""A few seconds of the soak; ``make soak`` runs it for minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_nothing_goes_wrong_in_a_few_seconds() -> None:
    # In a process of its own, which writes nothing while it forks: the standard library's streams do not survive that.
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.soak", "--seconds", "6"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("nothing wrong\n")
