"""The arguments of ``azure-cloudshell`` and its help."""

from __future__ import annotations

import argparse

from .._version import __version__

OUTPUTS = ("token", "json", "header", "env", "claims")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show a traceback when something goes wrong")
    parser = argparse.ArgumentParser(
        prog="azure-cloudshell",
        description="Use the user who is signed in to Azure Cloud Shell from scripts and programs.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", prog=parser.prog)

    def add(name: str, summary: str, *examples: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
        )

    _token(
        add(
            "token",
            "print an access token",
            "azure-cloudshell token",
            "azure-cloudshell token vault --output json",
            "azure-cloudshell token --output header | curl -H @- 'https://management.azure.com/subscriptions?"
            "api-version=2022-12-01'",
            'eval "$(azure-cloudshell token graph --output env)"',
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
            "list your virtual machines; outside Cloud Shell, those of an emulated one",
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
        default="arm",
        metavar="RESOURCE",
        help="a URI, an application id, or a short name (arm, graph, vault, storage, sql, ...); default: arm",
    )
    which.add_argument(
        "--resource", dest="resource_uri", metavar="URI", help="the resource, exactly as it is asked for"
    )
    which.add_argument("--scope", help="a scope, such as https://vault.azure.net/.default")
    parser.add_argument("--output", "-o", choices=OUTPUTS, default="token", help="default: token, and nothing else")
    parser.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="SECONDS", help="how long to try at most (%(default)g)"
    )
    parser.add_argument(
        "--fallback",
        action="store_true",
        help="if Cloud Shell has no token, ask the default chain (az login and others)",
    )


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="for each question at most (%(default)g)"
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write what the endpoint does to FILE, without tokens, users, tenants or subscriptions",
    )


def _emulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=_port,
        default=50342,
        help="where to listen; 0 takes a free port. Tools with the address built in need the default, %(default)s",
    )
    parser.add_argument("--tenant", metavar="ID", help="the tenant that is signed in to")
    parser.add_argument("--user", metavar="NAME", help="the user who is signed in")
    parser.add_argument("--lifetime", type=_positive, metavar="SECONDS", help="how long tokens live (3900)")
    parser.add_argument(
        "--audience", action="append", metavar="URI", help="support this audience and no other; may be repeated"
    )
    parser.add_argument("--latency", type=_seconds, default=0.0, metavar="SECONDS", help="wait before each reply")
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


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds
