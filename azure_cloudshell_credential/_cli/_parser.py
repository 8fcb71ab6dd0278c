"""The arguments of ``azure-cloudshell`` and its help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .._endpoint.acquisition import MAX_TIMEOUT
from .._version import __version__
from . import token
from ._shells import SHELLS

COMPLETED_SHELLS = ("bash", "zsh", "fish")

_CREDENTIALS = "az|default|MODULE:FACTORY"


def parse(words: Sequence[str]) -> argparse.Namespace | None:
    """The arguments; None, after showing the help, if there is no command.

    :raises SystemExit: after showing the help or the usage, as argparse does.
    """
    parser = make_parser()
    own, command = _split(words)
    arguments, unknown = parser.parse_known_args(own)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return None
    if command is not None:
        arguments.words = command
    if unknown:
        # By the command's own parser, whose usage is the one to show.
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments


def _split(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str] | None]:
    """The command's own arguments, and the command to run."""
    # Not left to argparse: what it makes of "--" depends on its version.
    ends = {"run": "--", "emulate": "--exec"}
    name = next((word for word in words if not word.startswith("-")), "")
    if name not in ends or ends[name] not in words:
        return words, None
    end = list(words).index(ends[name])
    return words[:end], words[end + 1 :]


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show a traceback when something goes wrong"
    )
    parser = argparse.ArgumentParser(
        prog="azure-cloudshell",
        description="Get tokens for the user signed in to Azure Cloud Shell, from scripts and programs.",
    )
    parser.set_defaults(debug=False)
    parser.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", prog=parser.prog)

    def add(name: str, summary: str, *examples: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
        )
        added.set_defaults(parser=added)
        return added

    _token(
        add(
            "token",
            "print an access token",
            "azure-cloudshell token",
            "azure-cloudshell token vault --output json",
            "azure-cloudshell token --output header | curl -H @- 'https://management.azure.com/subscriptions?"
            "api-version=2022-12-01'",
            'eval "$(azure-cloudshell token graph --output env)"',
            "azure-cloudshell token aks --output exec-credential    # in a kubeconfig",
        )
    )
    _doctor(
        add(
            "doctor",
            "find out why something does not work, and what to do",
            "azure-cloudshell doctor",
            "azure-cloudshell doctor --report report.json    # to attach to a bug report: no token, no names",
        )
    )
    _emulate(
        add(
            "emulate",
            "run Cloud Shell's token endpoint on this machine",
            "azure-cloudshell emulate",
            "azure-cloudshell emulate --port 0 --lifetime 120 --audience https://vault.azure.net",
            "azure-cloudshell emulate --port 0 --exec python my_script.py",
            "azure-cloudshell emulate --with-azure --exec az vm list",
            "azure-cloudshell emulate --fault portal-timeout:2 --exec azure-cloudshell token --wait",
        )
    )
    _run(
        add(
            "run",
            "run a program you cannot change with tokens of Cloud Shell, az login and the rest of the default chain",
            "azure-cloudshell run -- terraform apply",
            "azure-cloudshell run -- node app.js",
            "azure-cloudshell run --protocol app-service -- python app.py",
        )
    )
    _serve(
        add(
            "serve",
            "serve the same tokens to tools with a hard-coded address, until Ctrl-C",
            "azure-cloudshell serve",
            "azure-cloudshell serve --port 0 --path-secret",
        )
    )
    _demo(
        add(
            "demo",
            "list your virtual machines; elsewhere, those of a made-up company",
            "azure-cloudshell demo",
            "azure-cloudshell demo --subscription 00000000-0000-0000-0000-000000000000",
        )
    )
    _completion(
        add(
            "completion",
            "print the completions for a shell",
            'eval "$(azure-cloudshell completion bash)"    # in ~/.bashrc',
            'eval "$(azure-cloudshell completion zsh)"    # in ~/.zshrc, after compinit',
            "azure-cloudshell completion fish | source    # in ~/.config/fish/config.fish",
        )
    )
    return parser


def _token(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "resource",
        nargs="?",
        metavar="RESOURCE",
        help="a URI, an application id, or a short name (arm, graph, vault, storage, sql, ...); default: arm",
    )
    which.add_argument("--resource", dest="resource_uri", metavar="URI", help="the resource, sent unchanged")
    which.add_argument("--scope", help="a scope, such as https://vault.azure.net/.default")
    parser.add_argument(
        "--output", "-o", choices=token.OUTPUTS, default="token", help="default: token, and nothing else"
    )
    parser.add_argument("--shell", choices=SHELLS, help="syntax of --output env; default: the calling shell's")
    parser.add_argument("--tenant", metavar="ID", help="the tenant the token must be for")
    parser.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help=f"give up after this long ({token.DEFAULT_TIMEOUT:g})"
    )
    parser.add_argument(
        "--wait", action="store_true", help="keep trying while the portal in the browser does not answer"
    )
    parser.add_argument(
        "--fallback",
        action="store_true",
        help="if Cloud Shell has no token, try the default chain (az login and others)",
    )


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="per audience (%(default)g)")
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write a report on the endpoint to FILE (- for stdout), without tokens, users, tenants or subscriptions",
    )


def _emulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=_port,
        default=50342,
        help="port to listen on; 0 picks a free one. Tools with a hard-coded address need the default, %(default)s",
    )
    parser.add_argument("--tenant", metavar="ID", help="tenant to emulate")
    parser.add_argument("--user", metavar="NAME", help="user to emulate")
    parser.add_argument("--lifetime", type=_positive, metavar="SECONDS", help="token lifetime (3900)")
    parser.add_argument(
        "--audience", action="append", metavar="NAME", help="support this audience too, such as vault; may be repeated"
    )
    parser.add_argument(
        "--only-audience", action="append", metavar="NAME", help="support this audience and no other; may be repeated"
    )
    parser.add_argument("--deny", action="append", metavar="NAME", help="do not support this audience; may be repeated")
    parser.add_argument("--all-audiences", action="store_true", help="support every audience")
    parser.add_argument("--latency", type=_latency, default=0.0, metavar="SECONDS", help="wait before each reply")
    parser.add_argument(
        "--with-azure",
        action="store_true",
        help="also emulate Azure Resource Manager, for unmodified programs, and refuse them every other host",
    )
    parser.add_argument(
        "--fault",
        action="append",
        metavar="NAME[:COUNT]",
        help="fail like this, always or so often: portal-timeout, server-error, hang, drop, garbage, "
        "wrong-resource, expired-token, interaction-required; may be repeated",
    )
    parser.add_argument(
        "--az-login", nargs="?", const="", metavar="USER", help="put an az on PATH to which another user is signed in"
    )
    parser.add_argument("--shell", choices=SHELLS, help="syntax of the lines it prints; default: the calling shell's")
    parser.add_argument(
        "--exec",
        dest="words",
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="run a command in the emulated environment, and exit with its status; last option",
    )


def _broker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--credential",
        metavar=_CREDENTIALS,
        help="where tokens come from: the default chain, the Azure CLI, or what FACTORY() returns; default: default",
    )
    parser.add_argument(
        "--protocol",
        choices=("cloud-shell", "app-service", "imds"),
        default="cloud-shell",
        help="what the program speaks: %(choices)s; default: %(default)s, as azure-identity does in every language",
    )


def _run(parser: argparse.ArgumentParser) -> None:
    _broker(parser)
    parser.add_argument("--verbose", "-v", action="store_true", help="show a line for each token request, on stderr")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="the program and its arguments")


def _serve(parser: argparse.ArgumentParser) -> None:
    _broker(parser)
    parser.add_argument("--port", type=_port, default=50342, help="port to listen on; 0 picks a free one (%(default)s)")
    parser.add_argument(
        "--path-secret",
        action="store_true",
        help="put a secret into the URL, so that only programs that know it get tokens",
    )
    parser.add_argument("--shell", choices=SHELLS, help="syntax of the lines it prints; default: the calling shell's")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--subscription",
        metavar="ID",
        help="default: AZURE_SUBSCRIPTION_ID, or the first enabled subscription of the signed-in user",
    )


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=COMPLETED_SHELLS, metavar="SHELL", help="bash, zsh or fish")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535")
    return int(text)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _latency(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return min(seconds, MAX_TIMEOUT)


def _seconds(text: str) -> float:
    seconds = _latency(text)
    if seconds == 0:
        raise argparse.ArgumentTypeError("it must be more than 0 seconds")
    return seconds
