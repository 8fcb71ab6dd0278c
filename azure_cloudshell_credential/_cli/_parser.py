"""The grammar of ``azure-cloudshell``: one parser, which learns the options of the command asked for and of no other.

A command is a module here of the same name. It has ``EXAMPLES``, ``add_arguments(parser)`` and ``run(arguments)``, and
imports at its top no more than its options need. Standard library only: this is on the path of ``token``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from .._endpoint.acquisition import MAX_TIMEOUT
from .._endpoint.audiences import did_you_mean, host_mistake
from .._endpoint.text import quoted
from .._version import __version__
from ._errors import CommandError

COMMANDS = {
    "token": "print an access token",
    "run": "run a program with tokens from Cloud Shell, az login and the rest of the default chain",
    "serve": "serve the same tokens to tools with a hard-coded address, until Ctrl-C",
    "doctor": "find out why something does not work, and what to do",
    "emulate": "run Cloud Shell's token endpoint on this machine",
    "completion": "print the completions for a shell",
}
"""Every command, and what it does."""

_READS_THE_LINES_FOR = {"zsh": "bash", "powershell": "pwsh"}


class Parser(argparse.ArgumentParser):
    """argparse's, with errors of two lines and a suggestion, without empty values, and with env's grammar."""

    runs_a_command = False
    last_words: tuple[str, ...] = ()
    """Words that another program puts at the end of the line: ``arguments.last_word``."""

    def __init__(
        self, prog: str, usage: str | None = None, description: str = "", epilog: str = "", **_: object
    ) -> None:
        # Given a width, argparse imports nothing to find one.
        narrow = partial(argparse.RawDescriptionHelpFormatter, width=80)
        super().__init__(prog, usage, description, epilog, allow_abbrev=False, formatter_class=narrow)
        # The type of every value without another.
        self.register("type", None, _text)

    @property
    def takes_value(self) -> dict[str, bool]:
        """Every option, and whether it takes a value."""
        return {option: action.nargs != 0 for option, action in self._option_string_actions.items()}

    def add_command(self, meaning: str) -> None:
        """Take a program to run: ``arguments.words``, empty if there is none.

        The grammar is that of env and nohup: options end at the first word that is not one. The program's own words
        begin there, and none of them is looked at. One ``--`` before it may be left out.
        """
        self.runs_a_command = True
        self.add_argument("words", nargs="*", metavar="COMMAND", help=meaning)

    def split(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """Our own words, and those of the program to run."""
        # Not left to argparse: what it makes of "--" depends on the version of Python.
        ours: list[str] = []
        rest = list(words)
        while rest and rest[0].startswith("-") and rest[0] != "-":
            word = rest.pop(0)
            if word == "--":
                break
            if rest and self._takes_next(word):
                word += f"={rest.pop(0)}" if word.startswith("--") else rest.pop(0)
            if word.endswith("=--"):
                self.error(f"argument {word.removesuffix('=--')}: expected one argument")
            ours.append(word)
        return ours, rest

    def _takes_next(self, word: str) -> bool:
        """Whether the value of an option is the next word."""
        takes_value = self.takes_value
        if word.startswith("--"):
            return takes_value.get(word, False)
        for end, letter in enumerate(word[1:], 2):
            if takes_value.get(f"-{letter}"):
                return end == len(word)
        return False

    def format_help(self) -> str:
        """The help, as wide as the terminal."""
        from shutil import get_terminal_size
        from textwrap import fill

        width = min(100, get_terminal_size().columns - 2)
        self.formatter_class = partial(argparse.RawDescriptionHelpFormatter, width=width)
        self.description = fill(self.description or "", width)
        return super().format_help()

    def _check_value(self, action: argparse.Action, value: str) -> None:
        if action.choices is None or value in action.choices:
            return
        other = _READS_THE_LINES_FOR.get(value.casefold())
        hint = f" For {value}, use {other}." if other in action.choices else did_you_mean(value, action.choices)
        listed = ", ".join(action.choices)
        raise argparse.ArgumentError(action, f"{quoted(value, 80)!r} is not one of {listed}.{hint}")

    # NoReturn would take the import of typing, and that a twentieth of the time of `token`.
    def error(self, message: str) -> None:  # type: ignore[override]
        """End the command.

        :raises CommandError: always.
        """
        raise CommandError(f"{message}\nTry '{self.prog} --help'.", 2)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments. ``arguments.command`` is the command's name.

    :raises CommandError: for wrong usage.
    :raises SystemExit: after showing the help or the version.
    """
    at = next((index for index, word in enumerate(words) if not word.startswith("-")), len(words))
    ours, name, rest = list(words[:at]), "".join(words[at : at + 1]), list(words[at + 1 :])
    if name == "help":
        name, rest = "".join(rest[:1]), ["--help"]
        ours += rest if not name else []
    elif name == "version":
        name, ours = "", ["--version"]
    if name in COMMANDS and set(ours) <= {"--debug"}:
        return _parse_command(name, [*ours, *rest])
    parser, _ = make_parser()
    _refuse_unknown(parser, [word for word in ours if word not in parser.takes_value])
    parser.parse_args(ours)
    if name:
        parser.error(f"{quoted(name, 80)!r} is not a command.{did_you_mean(name, COMMANDS)}")
    parser.print_help(sys.stderr)
    raise SystemExit(2)


def _parse_command(name: str, words: list[str]) -> argparse.Namespace:
    parser = Parser(prog=f"azure-cloudshell {name}")
    add_command_arguments(parser, name)
    words, program = parser.split(words) if parser.runs_a_command else (words, None)
    last_word = words.pop() if words and words[-1] in parser.last_words else None
    arguments, unknown = parser.parse_known_args(words, argparse.Namespace(command=name, last_word=last_word))
    _refuse_unknown(parser, unknown)
    if program is not None:
        arguments.words = program
    return arguments


def make_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser that shows the commands, and those of the commands, without their options."""
    parser = Parser(
        prog="azure-cloudshell",
        usage="%(prog)s [--debug] COMMAND [...]",
        description="Get tokens for the user signed in to Azure Cloud Shell, from scripts and programs.",
        epilog="COMMAND --help shows the options of a command.",
    )
    _add_debug(parser)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND [...]", prog=parser.prog)
    return parser, {name: subparsers.add_parser(name, help=summary) for name, summary in COMMANDS.items()}


def add_command_arguments(parser: Parser, name: str) -> None:
    """Teach a parser the options of a command, and its help."""
    command = import_module(f".{name}", __package__)
    parser.description = f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}."
    parser.epilog = "\n  ".join(["examples:", *command.EXAMPLES])
    command.add_arguments(parser)
    _add_debug(parser)


def _add_debug(parser: Parser) -> None:
    parser.add_argument("--debug", action="store_true", help="show a traceback for an error")


def _refuse_unknown(parser: Parser, words: list[str]) -> None:
    if words:
        word, is_option = quoted(words[0], 80), words[0].startswith("-")
        # The line below names --help.
        known = parser.takes_value.keys() - {"--help"}
        suggestion = did_you_mean(words[0].partition("=")[0], known) if is_option else ""
        parser.error(f"unknown {'option' if is_option else 'argument'} {word}.{suggestion}")


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("the value is empty. Is the variable it comes from set?")
    return text


def resource(text: str) -> str:
    """The type of a resource, which a host is not."""
    if (mistake := host_mistake(_text(text))) is not None:
        raise argparse.ArgumentTypeError(mistake)
    return text


def resources(text: str) -> list[str]:
    """The type of a list with commas."""
    return [resource(name.strip()) for name in text.split(",")]


def port(text: str) -> int:
    """The type of a port; 0 is one."""
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535")
    return int(text)


def positive(text: str) -> int:
    """The type of a whole number."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def latency(text: str) -> float:
    """The type of a time in seconds, which may be 0."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return min(seconds, MAX_TIMEOUT)


def timeout(text: str) -> float:
    """The type of a time in seconds, which may not be 0."""
    seconds = latency(text)
    if seconds == 0:
        raise argparse.ArgumentTypeError("it must be more than 0 seconds")
    return seconds
