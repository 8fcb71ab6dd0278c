"""The credential that ``--credential`` names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from . import CommandError
from ._parser import Parser


def add_broker_arguments(parser: Parser) -> None:
    """What ``run`` and ``serve`` both take."""
    parser.add_argument(
        "--credential",
        metavar="az|default|MODULE:FACTORY",
        help="where tokens come from: the default chain, the Azure CLI, or what FACTORY() returns; default: default",
    )
    parser.add_argument(
        "--protocol",
        choices=("cloud-shell", "app-service", "imds"),
        default="cloud-shell",
        help="what the program speaks: %(choices)s; default: %(default)s, as azure-identity does in every language",
    )


def credential_named(name: str | None) -> Any:
    """The credential; None for the default one, which is made when it is first needed.

    :raises CommandError: for a name that is none.
    """
    if name is None or name == "default":
        return None
    if name == "az":
        from azure.identity import AzureCliCredential

        return AzureCliCredential(process_timeout=30)
    module, colon, factory = name.partition(":")
    if not colon or not module or not factory:
        raise CommandError(f"--credential is az, default or MODULE:FACTORY, not {name!r}.", 2)
    from importlib import import_module

    sys.path.insert(0, str(Path.cwd()))
    try:
        credential = getattr(import_module(module), factory)()
    except (ImportError, AttributeError) as error:
        raise CommandError(f"Cannot make a credential with {name}: {error}.") from None
    if not callable(getattr(credential, "get_token", None)):
        raise CommandError(f"{name}() did not return a credential: it has no get_token.")
    return credential
