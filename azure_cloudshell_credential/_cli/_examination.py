"""What ``doctor`` finds out: what the endpoint and the Azure CLI say, and what follows from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any

from .._endpoint import audiences, failures
from .._endpoint.acquisition import RetryPolicy
from .._endpoint.audiences import Audience
from .._endpoint.environment import MARKERS, Environment
from .._endpoint.failures import Failure
from .._endpoint.protocol import Token
from .token import ask, azure_cli_left_out

VARIABLES = ("MSI_ENDPOINT", *MARKERS, "ACC_TID")
"""What the environment of Cloud Shell is told by."""

PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")

MAX_CONSECUTIVE_TIMEOUTS = 2
"""After so many timeouts in a row the other audiences are skipped: a hanging portal answers for none of them."""


class Probe:
    """One audience that the endpoint was asked for.

    :param outcome: what came of it; None if it was not asked after all.
    :param seconds: how long that took.
    """

    def __init__(self, audience: Audience, resource: str, outcome: Token | Failure | None, seconds: float) -> None:
        self.name = audience.name
        self.workaround = audience.workaround
        self.resource = resource
        self.outcome = outcome
        self.seconds = seconds

    @property
    def failure(self) -> Failure | None:
        """Why there is no token, if it was asked and there is none."""
        return self.outcome if isinstance(self.outcome, Failure) else None

    @property
    def reason(self) -> str:
        """The failure in a few words, empty without one."""
        if self.failure is None:
            return ""
        return {
            "audience": "not supported",
            "portal": "the portal in the browser did not answer",
            "timeout": "no answer in time",
            "refused": "cannot be reached",
        }.get(self.failure.kind, self.failure.what)


def probe_audiences(
    environment: Environment, seconds: float, waiting_for: Callable[[str], AbstractContextManager[object]]
) -> Iterator[Probe]:
    """Ask for every well-known audience in turn, Resource Manager first.

    :param seconds: per audience.
    :param waiting_for: entered while one audience is asked for, given its name.
    """
    if environment.endpoint is None:
        return
    cloud = audiences.cloud_named(environment.cloud)
    timeouts = 0
    for audience in audiences.KNOWN:
        resource = audiences.resource_for(audience.name, cloud) or audience.resource
        if timeouts >= MAX_CONSECUTIVE_TIMEOUTS:
            yield Probe(audience, resource, None, 0.0)
            continue
        with waiting_for(audience.name):
            start = monotonic()
            outcome = ask(environment.endpoint, resource, RetryPolicy(seconds, retry_total=0))
        probe = Probe(audience, resource, outcome, monotonic() - start)
        yield probe
        kind = probe.failure.kind if probe.failure else None
        if kind == "refused":
            return
        timeouts = timeouts + 1 if kind == "timeout" else 0


def proxies() -> list[str]:
    """The proxy variables through which other tools would send token requests."""
    exempt = {host.strip() for name in ("NO_PROXY", "no_proxy") for host in os.environ.get(name, "").split(",")}
    if exempt & {"*", "localhost"}:
        return []
    return [name for name in PROXY_VARIABLES if os.environ.get(name)]


def inspect_az() -> dict[str, Any]:
    """Whether the Azure CLI is there, and who is logged in to it."""
    program = shutil.which("az")
    if program is None:
        return {"found": False}
    try:
        done = subprocess.run(  # noqa: S603 - the az on the user's PATH is the one to examine
            [program, "account", "show", "--output", "json"],
            capture_output=True,
            text=True,
            timeout=20,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "AZURE_CORE_NO_COLOR": "true"},
            check=False,
        )
        account = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError):
        account = None
    if not isinstance(account, dict):
        return {"found": True, "logged_in": False}
    user: Any = account.get("user") if isinstance(account.get("user"), dict) else {}
    return {
        "found": True,
        "logged_in": True,
        "user": user.get("name"),
        "from_cloud_shell": bool(user.get("cloudShellID")),
        "subscription": account.get("name"),
        "tenant": account.get("tenantId"),
    }


def advise(environment: Environment, probes: list[Probe], az: Mapping[str, Any]) -> tuple[list[str], bool]:
    """What to do, and whether there is a token for Resource Manager."""
    other = _other_sign_in(az)
    if environment.endpoint is None:
        reason = failures.not_in_cloud_shell(environment.refusal, environment.other_host)
        has_az = az.get("logged_in") and not az.get("from_cloud_shell")
        return [reason.what if has_az else reason.message, *other] if has_az else [reason.message], False
    if failure := probes[0].failure:
        if failure.kind == "audience":
            return [f"{failure.what} Open a new Cloud Shell in the portal, or sign in with 'az login'.", *other], False
        return [failure.message, *other], False
    failed = [(probe, probe.failure.kind) for probe in probes if probe.failure]
    if not failed:
        return ["Nothing to do: Cloud Shell issues tokens for every service that it was asked for."], True
    lines = ["Cloud Shell issues tokens for Azure Resource Manager."]
    if denied := [probe for probe, kind in failed if kind == "audience"]:
        lines.append(f"It has none for: {', '.join(probe.name for probe in denied)}. {other[0]}")
        lines += other[1:]
        lines += [f"{probe.name}: {probe.workaround}." for probe in denied if probe.workaround]
    if others := [probe.name for probe, kind in failed if kind != "audience"]:
        lines.append(f"Keep the browser tab with Cloud Shell open and active, and try again for: {', '.join(others)}.")
    return lines, True


def _other_sign_in(az: Mapping[str, Any]) -> list[str]:
    """How to get tokens from elsewhere than Cloud Shell."""
    users = "DefaultCloudShellCredential(), 'azure-cloudshell token --fallback' and 'azure-cloudshell run --'"
    # The login that az has in Cloud Shell from the start gets its tokens from the same endpoint.
    if az.get("from_cloud_shell"):
        start = "Run 'az login' (the Azure CLI's present login is Cloud Shell's own and gets no other tokens), then"
    elif az.get("logged_in"):
        start = "The Azure CLI is logged in:"
    else:
        start = "Run 'az login', then"
    lines = [f"{start} {users} use that login."]
    if left_out := azure_cli_left_out():
        lines.append(f"{left_out}: unset it to use that login.")
    return lines
