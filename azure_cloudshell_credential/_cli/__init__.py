"""The command ``azure-cloudshell``: its arguments, exit statuses and errors. Each subcommand has a file of its own.

Standard library only here, so that ``azure-cloudshell token`` starts fast; a subcommand imports what it needs when it
is run. Exit statuses: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ._parser import make_parser


class CommandError(Exception):
    """Ends the command with one line on stderr."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    :param argv: the arguments; None takes the process's own.
    :return: the exit status.
    """
    parser = make_parser()
    arguments = parser.parse_args(argv)
    try:
        status = _run(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from saying so while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if arguments.debug:
            raise
        print(f"azure-cloudshell: {_one_line(error)}", file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    from importlib import import_module

    status: int = import_module(f".{arguments.command}", __name__).run(arguments)
    return status


def _one_line(error: Exception) -> str:
    text = str(getattr(error, "message", "") or error).strip()
    if isinstance(error, CommandError):
        return text
    name = type(error).__name__
    return " ".join(text.split()) or f"{name}; run again with --debug for details"
