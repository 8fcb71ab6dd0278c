"""The command ``azure-cloudshell``: its exit statuses and errors. Each subcommand has a file of its own.

Exit statuses: 0 done, 1 failed, 2 wrong usage, 130 interrupted. ``run`` and ``emulate COMMAND`` exit as their command.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ._errors import CommandError, message_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Commands are imported by their names. What freezes programs (PyInstaller) goes by import statements.
    from . import completion, doctor, emulate, run, serve, token  # noqa: F401


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    :param argv: the arguments; None takes the process's own.
    :return: the exit status.
    """
    words = sys.argv[1:] if argv is None else argv
    arguments: argparse.Namespace | None = None
    try:
        from ._parser import parse

        arguments = parse(words)
        status = _run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; keep the interpreter from saying so while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        status = error.status if isinstance(error, CommandError) else 1
        if sys.stderr is None:
            return status
        if arguments.debug if arguments is not None else "--debug" in words:
            from traceback import print_exception

            error.__suppress_context__ = False
            print_exception(error)
        else:
            print(f"azure-cloudshell: {message_of(error, words[0])}", file=sys.stderr)
    return status


def _run(arguments: argparse.Namespace) -> int:
    # A command to run may do without it, and gets it as it is.
    if sys.stdout is None and not hasattr(arguments, "words"):
        raise CommandError("Standard output is closed.")
    # What cannot be encoded is shown as an escape, never as a traceback: LANG=C is common in containers.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    return int(import_module(f".{arguments.command}", __name__).run(arguments))
