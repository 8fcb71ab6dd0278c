"""The arguments of ``azure-cloudshell`` and its help."""

from __future__ import annotations

import argparse

from .._version import __version__


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show a traceback when something goes wrong")
    parser = argparse.ArgumentParser(
        prog="azure-cloudshell",
        description="Use the user who is signed in to Azure Cloud Shell from scripts and programs.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_emulate(commands, common)
    _add_demo(commands, common)
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    name: str,
    summary: str,
    examples: str,
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )


def _add_emulate(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    parser = _add(
        commands,
        common,
        "emulate",
        "run Cloud Shell's token endpoint on this machine, with made-up tokens",
        "  azure-cloudshell emulate\n  azure-cloudshell emulate --port 0 --lifetime 120\n",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=50342,
        help="where to listen; 0 takes a free port. Tools with the address built in need the default, %(default)s",
    )
    parser.add_argument(
        "--lifetime", type=_positive, default=3900, metavar="SECONDS", help="how long tokens live (%(default)s)"
    )


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = _add(
        commands,
        common,
        "demo",
        "list your virtual machines; outside Cloud Shell, those of an emulated one",
        "  azure-cloudshell demo\n  azure-cloudshell demo --subscription 00000000-0000-0000-0000-000000000000\n",
    )
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
