"""The arguments of ``azure-cloudshell`` and its help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .._acquisition import MAX_TIMEOUT
from .._version import __version__
from . import token
from ._shells import SHELLS


def parse(words: Sequence[str]) -> argparse.Namespace | None:
    """The arguments; None, after showing the help, if there is no command.

    :raises SystemExit: after showing the help or the usage, as argparse does.
    """
    parser = make_parser()
    arguments, unknown = parser.parse_known_args(words)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return None
    if unknown:
        # By the command's own parser, whose usage is the one to show.
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments


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
            "azure-cloudshell emulate --credential az       # real tokens, of your own login",
            "azure-cloudshell emulate --port 0 --exec python my_script.py",
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
    parser.add_argument("--shell", choices=SHELLS, help="for --output env; default: the shell that asks")
    parser.add_argument("--tenant", metavar="ID", help="the tenant that the token must be for")
    parser.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help=f"give up after this long ({token.DEFAULT_TIMEOUT:g})"
    )
    parser.add_argument(
        "--wait", action="store_true", help="do not give up while the portal in the browser does not answer"
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
        help="where to listen; 0 takes a free port. Tools with a hard-coded address need the default, %(default)s",
    )
    parser.add_argument("--tenant", metavar="ID", help="tenant to emulate")
    parser.add_argument("--user", metavar="NAME", help="user to emulate")
    parser.add_argument("--lifetime", type=_positive, metavar="SECONDS", help="how long tokens live (3900)")
    parser.add_argument(
        "--audience", action="append", metavar="URI", help="support this audience and no other; may be repeated"
    )
    parser.add_argument("--latency", type=_latency, default=0.0, metavar="SECONDS", help="wait before each reply")
    parser.add_argument(
        "--credential",
        metavar="az|default|MODULE:FACTORY",
        help="answer with real tokens: of the Azure CLI, of DefaultAzureCredential, or of what FACTORY() returns",
    )
    parser.add_argument(
        "--exec",
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="run a command in the emulated environment, and exit with its status; last option",
    )


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--subscription",
        metavar="ID",
        help="default: AZURE_SUBSCRIPTION_ID, or the first enabled subscription of the signed-in user",
    )


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
