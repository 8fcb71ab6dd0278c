"""Ratios, measured side by side in one run: ``make bench``.

Each row compares two or more things that are measured in turn, again and again, so that a machine that slows down slows
all of them. A result is the median over the rounds, with the range of the middle half of them beside it. A row passes
if it reaches its bar. Times themselves depend on the machine and are shown only where there is nothing to compare with.
"""

from __future__ import annotations

import argparse
import compileall
import logging
import sys
from pathlib import Path

import azure_cloudshell_credential
from azure_cloudshell_credential.emulator import CloudShellEmulator

from . import broker, endpoint, in_memory, processes
from .chart import write_chart

HERE = Path(__file__).parent


def main() -> int:
    """Measure, print, and write the table and the chart.

    :return: 1 if a row misses its bar, else 0.
    """
    parser = argparse.ArgumentParser(description="Compare, in one run.")
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    # As pip does when it installs a package; an editable one may never have been compiled.
    compileall.compile_dir(Path(azure_cloudshell_credential.__file__).parent, quiet=1)
    # azure-identity's chain warns of each failure that is measured.
    logging.disable()
    with CloudShellEmulator() as shell, shell.as_environment():
        rows = in_memory.cached(rounds) + processes.processes(rounds) + endpoint.uncached(rounds, shell)
        rows += endpoint.requests_made(shell) + endpoint.chains(shell) + broker.answers(rounds, shell)
        shell.audiences = None
        rows += processes.memory() + in_memory.cache_size(rounds)
    widths = [max(len(getattr(row, name)) for row in rows) for name in ("what", "result", "bar")]
    lines = [
        f"{row.what:<{widths[0]}}  {row.result:<{widths[1]}}  {row.bar:<{widths[2]}}  {row.mark}".rstrip()
        for row in rows
    ]
    table = "\n".join(lines)
    print(table)
    (HERE / "results.txt").write_text(table + "\n", encoding="utf-8")
    write_chart(HERE / "chart.svg", [(*row.label, row.share) for row in rows if row.share is not None])
    return 1 if any(row.passed is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
