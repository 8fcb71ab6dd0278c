"""What is so with the Azure CLI: from what it said where it was asked, elsewhere from its profile.

Nothing here starts a program.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from .environment import is_led_to_a_broker
from .text import redacted
from .untrusted_json import read_json_file

ABSENT, SIGNED_OUT, OWN, SIGNED_IN = "absent", "signed out", "own", "signed in"
SLOW, BROKEN, REFUSED, LEFT_OUT, UNKNOWN = "slow", "broken", "refused", "left out", "unknown"

# On a line of its own, as az prints it. Nothing else of a text that others wrote becomes a command to run. Not compiled
# here: the command token imports this, and needs it only when something has failed.
_LOGIN = r"(?am)^[ \t]*(az login(?: [\w~:/.,=\"+@-]+)*)[ \t]*$"


class AzureCli:
    """What is so with the Azure CLI.

    :param state: ``ABSENT``: not on PATH. ``OWN``: signed in by Cloud Shell itself. ``REFUSED``: Microsoft Entra ID has
        refused it. ``BROKEN``: it reports another error. ``LEFT_OUT``: of the default chain. ``UNKNOWN``: it was
        not asked, and nothing leaves it out.
    :param detail: who is signed in; the command that a refusal names; how to let it in where it is left out.
    :param code: of a refusal, the number behind ``AADSTS``.
    :param beneath: where it is left out: what is so with it otherwise.
    """

    def __init__(self, state: str, detail: str = "", code: str = "", beneath: AzureCli | None = None) -> None:
        self.state = state
        self.detail = detail
        self.code = code
        self.beneath = beneath


def profile_path(environ: Mapping[str, str]) -> str:
    """Where az keeps who is signed in."""
    folder = environ.get("AZURE_CONFIG_DIR") or os.path.join(os.path.expanduser("~"), ".azure")
    return os.path.join(folder, "azureProfile.json")


def az_that_said(text: str) -> AzureCli:
    """The state of an Azure CLI that azure-identity has asked.

    :param text: what azure-identity says, with its line ends.
    """
    if "not found on path" in text:
        return AzureCli(ABSENT)
    if text.startswith("Failed to invoke the Azure CLI"):
        return AzureCli(SLOW)
    code, named = re.search("AADSTS([0-9]+)", text), re.findall(_LOGIN, text)
    if code:
        return AzureCli(REFUSED, redacted(named[-1]) if named else "", code[1])
    if (on_disk := _az_in_profile(os.environ)).state == OWN:
        # Whatever the endpoint that it shares with us has said.
        return on_disk
    # azure-identity's own words for whatever of az's names that command and no code.
    return AzureCli(SIGNED_OUT if text.startswith("Please run 'az login'") else BROKEN)


def az_on_disk(environ: Mapping[str, str]) -> AzureCli:
    """The state of an Azure CLI that nobody has asked: what its profile says. No program is started."""
    az = _az_in_profile(environ)
    return AzureCli(LEFT_OUT, chosen, beneath=az) if (chosen := left_out(environ)) else az


def _is_on_path(environ: Mapping[str, str]) -> bool:
    # Not by shutil.which: it brings the compressions, which take 5 ms.
    names = ("az.cmd", "az.exe", "az.bat") if os.name == "nt" else ("az",)
    folders = environ.get("PATH", os.defpath).split(os.pathsep)
    paths = (os.path.join(folder, name) for folder in folders for name in names)
    return any(os.path.isfile(path) and os.access(path, os.X_OK) for path in paths)


def _az_in_profile(environ: Mapping[str, str]) -> AzureCli:
    if not _is_on_path(environ):
        return AzureCli(ABSENT)
    profile = read_json_file(profile_path(environ))
    subscriptions = profile.get("subscriptions") if isinstance(profile, dict) else None
    for each in subscriptions if isinstance(subscriptions, list) else []:
        user = each.get("user") if isinstance(each, dict) and each.get("isDefault") else None
        if isinstance(user, dict):
            name = user.get("name")
            named = name if isinstance(name, str) and name.isprintable() and 0 < len(name) < 200 else "an unnamed user"
            return AzureCli(OWN if user.get("cloudShellID") is True else SIGNED_IN, named)
    return AzureCli(SIGNED_OUT)


def left_out(environ: Mapping[str, str]) -> str:
    """What to undo, where the Azure CLI is left out of the default chain; empty where it is not."""
    chosen = environ.get("AZURE_TOKEN_CREDENTIALS", "").strip().lower()
    # Under a broker it is set for the programs there, and is not to be unset.
    is_left_out = chosen not in ("", "dev", "azureclicredential") and not is_led_to_a_broker(environ)
    return "unset AZURE_TOKEN_CREDENTIALS" if is_left_out else ""
