"""The options that say where the broker's tokens come from and for what, and the credential that one of them names."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from .._endpoint import advice
from .._endpoint.azure_cli import ABSENT, AzureCli
from .._endpoint.text import quoted
from .._serving.variables import CHOICE
from ._errors import CommandError
from ._foreground import say
from ._parser import Parser, resources


def add_broker_arguments(parser: Parser) -> None:
    """What ``run`` and ``serve`` both take."""
    parser.add_argument(
        "--credential",
        metavar="az|default|MODULE:FACTORY",
        help="where tokens come from: the Azure CLI, the default chain (default), or what FACTORY() returns",
    )
    parser.add_argument(
        "--allow",
        type=resources,
        metavar="NAME[,NAME...]",
        help="serve tokens for these resources and no other: short names (arm, vault, ...), URIs or application ids",
    )


def check_credential(name: str | None) -> None:
    """Find out what can be found out about a credential without making it.

    :raises CommandError: if it cannot be made.
    """
    if name == "az":
        from shutil import which

        if which("az") is None:
            step = advice.sentence_for("sign_in", advice.DEFAULT, AzureCli(ABSENT), {})
            raise CommandError(f"--credential az needs the Azure CLI, and there is no az on PATH. {step}")
    if name not in (None, "default", "az") and not all(name.partition(":")):
        raise CommandError(f"--credential is az, default or MODULE:FACTORY, not {name!r}.", 2)


def tell_of_a_way_past(allow: Iterable[str] | None, environ: Mapping[str, str]) -> None:
    """Say so on stderr if the user's own choice lets programs get what ``--allow`` leaves out.

    :param environ: the variables that the programs have.
    """
    chosen = environ.get(CHOICE, "").strip()
    if allow is not None and chosen.lower() not in ("", "prod", "managedidentitycredential"):
        shown = quoted(chosen, 60)
        say(f"azure-cloudshell: {CHOICE}={shown} is set: programs may ask other credentials for what --allow refuses")


def credential_named(name: str | None) -> Any:
    """The credential; None for the default one, which is made when it is first needed.

    :raises CommandError: if it cannot be made.
    """
    check_credential(name)
    # It is the programs', for their own chains; the broker's is not to be narrowed by it.
    os.environ.pop(CHOICE, None)
    # They also log, as warnings that Python prints, what the errors say.
    for library in ("azure", "msal", "urllib3"):
        logging.getLogger(library).addHandler(logging.NullHandler())
    if name is None or name == "default":
        return None
    if name == "az":
        from azure.identity import AzureCliCredential

        from .._azure.default_chain import PROCESS_TIMEOUT
        from .._azure.programs import one_at_a_time

        return one_at_a_time(AzureCliCredential(process_timeout=PROCESS_TIMEOUT))
    from importlib import import_module
    from pathlib import Path

    from .._azure.credential import check_is_synchronous

    module, _, factory = name.partition(":")
    where = ""
    try:
        # Last: a project's own http/ or hmac.py is not to stand in for the library's.
        sys.path.append(str(Path.cwd()))
    except FileNotFoundError:
        where = " (The current directory is gone: change to one that is there.)"
    try:
        credential = getattr(import_module(module), factory)()
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {quoted(str(error))}{where}"
        raise CommandError(f"Cannot make a credential with {name}: {what}") from error
    try:
        check_is_synchronous(credential)
    except TypeError as error:
        raise CommandError(f"{name}() does not return what is needed: {error}") from None
    return credential
