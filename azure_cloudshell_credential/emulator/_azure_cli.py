"""Stand-ins for the Azure CLI, the Azure Developer CLI and PowerShell, for PATH.

Nobody is signed in to them until ``az_login``. Each is a small program that asks the emulator what to print, so that a
test never gets a token of the developer's own, and sees what was asked. What they print is what azure-identity 1.27.0
and azure-cli 2.91.0 look for and write.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ._issuer import Issuer
from ._settings import Identity

SUBSCRIPTION_ID = "00000000-1111-4222-8333-444444444444"
SUBSCRIPTION_NAME = "Contoso Pay-As-You-Go"

PATH = "/programs"
"""Where the emulator answers the programs."""

_CLOUD_SHELL_PROBLEM = (
    "WARNING: A Cloud Shell credential problem occurred. When you report the issue with the error below, please "
    "mention the hostname 'SandboxHost-1'\nERROR: {what}\n"
    "Run the command below to authenticate interactively; additional arguments may be added as needed:\n"
    "az logout\naz login --scope {{resource}}/.default"
)
FAILURES = {
    "signed-out": "ERROR: Please run 'az login' to setup account.",
    "audience": _CLOUD_SHELL_PROBLEM.format(what="Audience {resource} is not a supported MSI token audience."),
    "portal-timeout": _CLOUD_SHELL_PROBLEM.format(what="Timeout waiting for token from portal. Audience: {resource}"),
    "msi": (
        "ERROR: Failed to connect to MSI. Please make sure MSI is configured correctly.\n"
        "Get Token request returned: <Response [400]>"
    ),
    "other-tenant": (
        "ERROR: For Cloud Shell account, getting access token for non-current tenants is not supported. The specified "
        "tenant must be the current tenant {tenant}"
    ),
    "cross-tenant": (
        "ERROR: Cross-tenant authentication is not supported by managed identity and Cloud Shell. "
        "Please run `az login` with a user account or a service principal."
    ),
}
"""What az is known to say when it has no token: azure-cli's sources, and issues such as azure-cli#30428."""

_SIGNED_OUT = {
    "azd": "ERROR: not logged in, run `azd auth login` to login",
    "pwsh": "Run Connect-AzAccount to login.",
    "powershell": "Run Connect-AzAccount to login.",
}
_PROGRAMS = ("az", *_SIGNED_OUT)

_ASK = """\
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", {port})
try:
    connection.request("POST", {path!r}, json.dumps(sys.argv[1:]), {{"Content-Type": "application/json"}})
    answer = json.load(connection.getresponse())
except (OSError, ValueError, http.client.HTTPException):
    sys.exit("ERROR: The emulator behind this program has stopped.")
sys.stdout.write(answer["out"])
sys.stderr.write(answer["err"])
sys.exit(answer["status"])
"""


class Printed(NamedTuple):
    """What a program prints, and its exit status."""

    status: int
    out: str = ""
    err: str = ""


class Programs:
    """The programs, and who is signed in to az.

    :param issuer: makes their tokens.
    """

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._profile: Path | None = None
        self.reset()

    def reset(self) -> None:
        """Sign out, and forget what was asked."""
        self.calls: list[list[str]] = []
        self.fail("signed-out", 0.0)

    def login(self, identity: Identity, seconds: float) -> None:
        """Sign in to az."""
        self._identity: Identity | None = identity
        self._seconds = seconds
        if self._profile is not None:
            write_profile(self._profile, identity, is_cloud_shell=False)

    def fail(self, text: str, seconds: float) -> None:
        """Sign out of az, which then fails with this text."""
        self._identity = None
        self._failure = FAILURES.get(text, text)
        self._seconds = seconds
        if self._profile is not None:
            for file in self._profile.glob("*"):
                file.unlink()

    def install(self, folder: Path, port: int, names: Sequence[str]) -> dict[str, str]:
        """Write the programs and az's empty profile into a folder.

        :return: the variables that lead to them.
        """
        programs, self._profile = folder / "bin", folder / "azure"
        programs.mkdir()
        self._profile.mkdir()
        script = programs / "ask.py"
        script.write_text(_ASK.format(port=port, path=PATH), encoding="utf-8")
        for name in names or _PROGRAMS:
            if os.name == "nt":
                text = f'@"{sys.executable}" -IS "{script}" {name} %*\n'
                (programs / f"{name}.cmd").write_text(text, encoding="utf-8")
                continue
            text = f"#!/bin/sh\nexec '{sys.executable}' -IS '{script}' {name} \"$@\"\n"
            (programs / name).write_text(text, encoding="utf-8")
            (programs / name).chmod(0o755)
        path = os.pathsep.join(filter(None, (str(programs), os.environ.get("PATH"))))
        return {"PATH": path, "AZURE_CONFIG_DIR": str(self._profile), "AZD_CONFIG_DIR": str(folder / "azd")}

    def uninstall(self) -> None:
        """Leave the folder alone from now on."""
        self._profile = None

    def answer(self, words: Sequence[str]) -> tuple[float, Printed]:
        """What a program prints, and after how many seconds.

        :param words: its name and arguments.
        """
        self.calls.append(list(words))
        return (self._seconds if words[0] == "az" else 0.0), self._printed(*words)

    def _printed(self, name: str, *arguments: str) -> Printed:
        if name != "az":
            return Printed(1, err=f"{_SIGNED_OUT[name]}\n")
        options = _options(arguments)
        resource = (options.get("resource") or options.get("scope") or "").removesuffix("/.default")
        if self._identity is None:
            return Printed(1, err=_filled(self._failure, resource, options.get("tenant", "")))
        identity = self._identity.changed(**({"tenant_id": options["tenant"]} if "tenant" in options else {}))
        if arguments[:2] == ("account", "get-access-token"):
            return self._token(identity, resource or "https://management.core.windows.net/", options)
        if arguments[:2] == ("account", "show"):
            return Printed(0, json.dumps(subscription_of(self._identity)) + "\n")
        return Printed(1, err=f"ERROR: This az is a stand-in and knows no '{' '.join(arguments[:2])}'.\n")

    def _token(self, identity: Identity, resource: str, options: dict[str, str]) -> Printed:
        token, _, expires_on = self._issuer.mint(resource, identity=identity)
        if options.get("query") == "accessToken" or options.get("output") == "tsv":
            return Printed(0, f"{token}\n")
        content = {
            "accessToken": token,
            # Local time, as az has it.
            "expiresOn": f"{datetime.fromtimestamp(expires_on):%Y-%m-%d %H:%M:%S.%f}",
            "expires_on": expires_on,
            "subscription": SUBSCRIPTION_ID,
            "tenant": identity.tenant_id,
            "tokenType": "Bearer",
        }
        return Printed(0, json.dumps(content, indent=2) + "\n")


def _options(arguments: Sequence[str]) -> dict[str, str]:
    """The values of the long options."""
    short = {"-o": "--output", "-t": "--tenant"}
    words = [short.get(word, word) for word in arguments]
    return {
        option.removeprefix("--"): value
        for option, value in pairwise(words)
        if option.startswith("--") and not value.startswith("-")
    }


def _filled(text: str, resource: str, tenant: str) -> str:
    return text.replace("{resource}", resource).replace("{tenant}", tenant).rstrip() + "\n"


def subscription_of(identity: Identity, *, is_cloud_shell: bool = False) -> dict[str, Any]:
    """The one subscription, as az keeps it in its profile and prints it."""
    user = {"name": identity.user, "type": "user", **({"cloudShellID": True} if is_cloud_shell else {})}
    return {
        "id": SUBSCRIPTION_ID,
        "name": SUBSCRIPTION_NAME,
        "state": "Enabled",
        "isDefault": True,
        "tenantId": identity.tenant_id,
        "homeTenantId": identity.tenant_id,
        "managedByTenants": [],
        "environmentName": "AzureCloud",
        "user": user,
    }


def write_profile(folder: Path, identity: Identity, *, is_cloud_shell: bool) -> None:
    """Fill ``AZURE_CONFIG_DIR`` as a sign-in would.

    :param is_cloud_shell: as ``az login --identity`` does when Cloud Shell starts, seen with azure-cli 2.91.0; the az
        that it is for asks port 50342. Otherwise as ``az login`` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config").write_text("[core]\ncollect_telemetry = no\n", encoding="utf-8")
    profile = {
        "installationId": "00000000-0000-4000-8000-000000000000",
        "subscriptions": [subscription_of(identity, is_cloud_shell=is_cloud_shell)],
    }
    (folder / "azureProfile.json").write_text(json.dumps(profile), encoding="utf-8")
