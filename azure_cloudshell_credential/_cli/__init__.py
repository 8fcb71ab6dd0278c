"""The command ``azure-cloudshell``: its exit statuses and errors. Each subcommand has a file of its own.

Standard library only here, so that ``azure-cloudshell token`` starts fast; a subcommand imports what it needs when it
is run. Exit statuses: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# typing's own would cost the command its import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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
    arguments: Any = None
    try:
        from . import token

        words = sys.argv[1:] if argv is None else argv
        arguments = token.plain_arguments(words)
        if arguments is None:
            arguments = _parse(words)
        if arguments is None:
            return 2
        status = _run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; keep the interpreter from saying so while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except CommandError as error:
        if arguments is not None and arguments.debug and error.__cause__ is not None:
            raise
        _complain(str(error))
        return error.status
    except Exception as error:
        if arguments is None or arguments.debug:
            raise
        _complain(_one_line(error))
        return 1
    return status


def _parse(words: Sequence[str]) -> Any:
    from ._parser import parse

    return parse(words)


def _run(arguments: Any) -> int:
    if sys.stdout is None:
        raise CommandError("There is no standard output to write to.")
    # What cannot be encoded is shown as an escape, never as a traceback: LANG=C is common in containers.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if arguments.command == "token":
        from . import token

        return token.run(arguments)
    from importlib import import_module

    status: int = import_module(f".{arguments.command}", __name__).run(arguments)
    return status


def _complain(message: str) -> None:
    if sys.stderr is not None:
        print(f"azure-cloudshell: {message}", file=sys.stderr)


def _one_line(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and str(error).startswith("No module named"):
        # The one file of a release has no packages beside it.
        return f"This needs {error.name}: pip install azure-cloudshell-credential"
    text = " ".join(str(getattr(error, "message", "") or error).split())
    return text or f"{type(error).__name__}; run again with --debug for details"
