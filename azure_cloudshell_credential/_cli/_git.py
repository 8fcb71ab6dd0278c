"""What git says to ``azure-cloudshell token --output git-credential``: gitcredentials(7), git-credential(1).

git adds one word to the command, and writes on its stdin for which host.
"""

from __future__ import annotations

import sys

from .._endpoint.text import quoted
from ._errors import CommandError

ACTIONS = ("get", "store", "erase")


def wants_password(action: str | None) -> bool:
    """Whether there is a password to print.

    :param action: one of ``ACTIONS``; None if it is not git that asks.
    :raises CommandError: for a host that is not Azure DevOps: it would be sent the user's token.
    """
    if action is None:
        return True
    said = dict(line.decode(errors="replace").strip("\r\n").partition("=")[::2] for line in sys.stdin.buffer)
    if action != "get":
        # There is nothing to store, and nothing stored.
        return False
    host = said.get("host", "").partition(":")[0].lower()
    if said.get("protocol") == "https" and (host == "dev.azure.com" or host.endswith(".visualstudio.com")):
        return True
    asked = quoted(f"{said.get('protocol', '')}://{said.get('host', '')}", 100)
    raise CommandError(
        f"No token for {asked}: only https://dev.azure.com and https://*.visualstudio.com are given one. "
        "Set this helper as credential.https://dev.azure.com.helper."
    )
