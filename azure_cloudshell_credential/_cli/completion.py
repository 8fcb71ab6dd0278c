"""``azure-cloudshell completion``: what a shell needs to complete the others."""

from __future__ import annotations

import argparse
import sys
from importlib import resources

from ._parser import Parser

SHELLS = ("bash", "zsh", "fish")
EXAMPLES = (
    'eval "$(azure-cloudshell completion bash)"    # in ~/.bashrc',
    'eval "$(azure-cloudshell completion zsh)"    # in ~/.zshrc, after compinit',
    "azure-cloudshell completion fish | source    # in ~/.config/fish/config.fish",
)


def add_arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")


def run(arguments: argparse.Namespace) -> int:
    """Print the completions for a shell, which docs/generate.py has made from the parser."""
    file = resources.files(__package__).joinpath(f"completion.{arguments.shell}")
    sys.stdout.write(file.read_text(encoding="utf-8"))
    return 0
