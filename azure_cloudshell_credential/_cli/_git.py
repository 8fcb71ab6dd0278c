"""What git says to ``azure-cloudshell token --output git-credential``: gitcredentials(7), git-credential(1).

git adds one word to the command, and writes on its stdin for which host.
"""

from __future__ import annotations

import re
import sys

from .._endpoint.text import quoted
from ._errors import CommandError

_AZURE_DEVOPS = re.compile(
    r"(dev\.azure\.com|([a-z0-9-]+\.)+visualstudio\.com)(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE
)
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
    if said.get("protocol") == "https" and _AZURE_DEVOPS.fullmatch(said.get("host", "")):
        return True
    asked = quoted(f"{said.get('protocol', '')}://{said.get('host', '')}", 100)
    raise CommandError(
        f"No token for {asked}: only https://dev.azure.com and https://*.visualstudio.com are given one. "
        "Set this helper as credential.https://dev.azure.com.helper."
    )
