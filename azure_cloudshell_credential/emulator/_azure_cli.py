"""Stand-ins for the Azure CLI, the Azure Developer CLI and PowerShell, for PATH.

Nobody is signed in to them until ``az_login``, or ``az login``. Each is a small program that asks the emulator what to
print, so that a test never gets a token of the developer's own, and sees what was asked. What they print is what
azure-identity 1.27.0 and azure-cli 2.91.0 look for and write (``_az_words``). As strict as Microsoft Entra ID, az has
no token for a resource that nobody serves, and a refusal ends with what ends it there: another sign-in, one for the
scope, or none.
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

from .._endpoint import audiences
from ._az_words import AGAIN, FAILURES, IDS, UNKNOWN_RESOURCE, Refused, filled
from ._issuer import Issuer
from ._settings import Identity

SUBSCRIPTION_ID = "00000000-1111-4222-8333-444444444444"
SUBSCRIPTION_NAME = "Contoso Pay-As-You-Go"

PATH = "/programs"
"""Where the emulator answers the programs."""

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
        self.who_logs_in = Identity()
        """Who chooses an account where ``az login`` asks for one."""
        self._refused: Refused | None = None
        self.fail("signed-out", 0.0)

    def login(self, identity: Identity, seconds: float = 0.0) -> None:
        """Sign in to az."""
        self._identity: Identity | None = identity
        self._own: Identity | None = None
        self._seconds = seconds
        if self._profile is not None:
            write_profile(self._profile, identity, is_cloud_shell=False)

    def login_of_cloud_shell(self, identity: Identity) -> None:
        """Sign in as Cloud Shell does when it starts: az asks the same endpoint, and is refused the same resources."""
        self.logout()
        self._own = identity
        self._failure = FAILURES["audience"]
        if self._profile is not None:
            write_profile(self._profile, identity, is_cloud_shell=True)

    def logout(self) -> None:
        """Sign out of az."""
        self._identity = self._own = None
        self._failure = FAILURES["signed-out"]
        if self._profile is not None:
            for file in self._profile.glob("*"):
                file.unlink()

    def fail(self, text: str, seconds: float) -> None:
        """Sign out of az, which then fails with this text."""
        self.logout()
        self._failure = FAILURES.get(text, text)
        self._seconds = seconds

    def refuse(self, refused: Refused) -> None:
        """Let Microsoft Entra ID refuse whoever is signed in."""
        self._refused = refused

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
        if arguments[:1] == ("login",):
            return self._signs_in(resource, options)
        if arguments[:1] == ("logout",):
            self.logout()
            return Printed(0)
        if self._own and arguments[:2] == ("account", "show"):
            return Printed(0, json.dumps(subscription_of(self._own, is_cloud_shell=True)) + "\n")
        if self._identity is None:
            return Printed(1, err=filled(self._failure, resource, options.get("tenant", "")))
        identity = self._identity.changed(**({"tenant_id": options["tenant"]} if "tenant" in options else {}))
        if arguments[:2] == ("account", "get-access-token"):
            return self._token(identity, resource or "https://management.core.windows.net/", options)
        if arguments[:2] == ("account", "show"):
            return Printed(0, json.dumps(subscription_of(self._identity)) + "\n")
        return Printed(1, err=f"ERROR: This az is a stand-in and knows no '{' '.join(arguments[:2])}'.\n")

    def _signs_in(self, resource: str, options: dict[str, str]) -> Printed:
        """``az login``, in whose browser somebody has chosen an account and done what was asked there."""
        identity = self.who_logs_in
        if tenant := options.get("tenant"):
            identity = identity.changed(tenant_id=tenant)
        refused = self._refused
        if refused and (refused.until == "login" or (refused.until == "scope" and _same(resource, refused.resource))):
            self._refused = None
        self.login(identity)
        return Printed(0, json.dumps([subscription_of(identity)]) + "\n")

    def _refusal(self, identity: Identity, resource: str) -> Refused | None:
        if not is_served(resource):
            return UNKNOWN_RESOURCE
        refused = self._refused
        if refused is None or (refused.tenant and refused.tenant != identity.tenant_id):
            return None
        return refused if not refused.resource or _same(refused.resource, resource) else None

    def _token(self, identity: Identity, resource: str, options: dict[str, str]) -> Printed:
        if refused := self._refusal(identity, resource):
            text = f"ERROR: AADSTS{refused.code}: {refused.what} {IDS}{AGAIN if refused.names_command else ''}"
            return Printed(1, err=filled(text, resource, identity.tenant_id))
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


def is_served(resource: str) -> bool:
    """Whether somebody's application has a resource for its name, as far as its name tells."""
    is_own = resource.lower().startswith("api://") or audiences.is_guid(resource)
    return is_own or audiences.lookup(resource) is not None


def _same(first: str, second: str) -> bool:
    return first.rstrip("/") == second.rstrip("/")


def _options(arguments: Sequence[str]) -> dict[str, str]:
    """The values of the long options."""
    short = {"-o": "--output", "-t": "--tenant"}
    words = [short.get(word, word) for word in arguments]
    return {
        option.removeprefix("--"): value
        for option, value in pairwise(words)
        if option.startswith("--") and not value.startswith("-")
    }


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
