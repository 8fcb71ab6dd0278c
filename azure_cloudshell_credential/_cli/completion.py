"""``azure-cloudshell completion``: what a shell needs to complete the others."""

from __future__ import annotations

import argparse
import sys
from importlib import resources


def run(arguments: argparse.Namespace) -> int:
    """Print the completions for a shell, which docs/generate.py has made from the parser."""
    file = resources.files(__package__).joinpath(f"completion.{arguments.shell}")
    sys.stdout.write(file.read_text(encoding="utf-8"))
    return 0
