"""The command ``azure-cloudshell``: its exit statuses and errors. Each subcommand has a file of its own.

Standard library only here, so that ``azure-cloudshell token`` starts fast; a subcommand imports what it needs when it
is run. Exit statuses: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


class CommandError(Exception):
    """Ends the command with one line on stderr.

    :param status: the exit status.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    :param argv: the arguments; None takes the process's own.
    :return: the exit status.
    """
    arguments = None
    try:
        from importlib import import_module

        from ._parser import make_parser

        parser = make_parser()
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            parser.print_help(sys.stderr)
            return 2
        status: int = import_module(f".{arguments.command}", __name__).run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from saying so while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except CommandError as error:
        if arguments is not None and arguments.debug and error.__cause__ is not None:
            raise
        print(f"azure-cloudshell: {error}", file=sys.stderr)
        return error.status
    except Exception as error:
        if arguments is None or arguments.debug:
            raise
        print(f"azure-cloudshell: {_one_line(error)}", file=sys.stderr)
        return 1
    return status


def _one_line(error: Exception) -> str:
    text = " ".join(str(getattr(error, "message", "") or error).split())
    return text or f"{type(error).__name__}; run again with --debug for details"
