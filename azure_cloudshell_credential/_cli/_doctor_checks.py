"""What ``doctor`` finds out: what the endpoint and the Azure CLI say, and what follows from it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from .._endpoint import advice, audiences, azure_cli, failures
from .._endpoint.acquisition import RetryPolicy
from .._endpoint.audiences import Audience
from .._endpoint.azure_cli import AzureCli
from .._endpoint.environment import MARKERS, PATHS, VARIABLES_OF_OTHER_HOSTS, Environment, is_led_to_a_broker
from .._endpoint.failures import Failure
from .._endpoint.identity import Identity
from .._endpoint.text import count, quoted
from .._endpoint.token import Token
from .._endpoint.untrusted_json import read_json
from ._doctor_tools import tools_on_path
from ._progress import Progress
from .token import DEFAULT_TIMEOUT, ask

VARIABLES = ("MSI_ENDPOINT", *MARKERS, "ACC_TID")
"""Variables that identify Cloud Shell."""

PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")

DEFAULT_SECONDS = 10.0

MAX_FAILURES = 2
"""After so many in a row the other audiences are skipped: a hanging portal, or a broker without a sign-in, has none."""

_MAX_OUTPUT = 1_000_000
"""Bytes of another program's output."""


class Probe:
    """One resource that the endpoint was asked for.

    :param outcome: the token or the failure; None if it was not asked after all.
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
        }.get(self.failure.kind, self.failure.code or self.failure.kind)


class Findings:
    """Everything that ``doctor`` looks at. What others wrote is printable, bounded and without tokens in it.

    :param seconds: for each answer. Default: 10 for the endpoint's, and for az's as long as everywhere.
    """

    def __init__(self, seconds: float | None, progress: Progress) -> None:
        self.environment = Environment(os.environ)
        self.is_broker = self.environment.endpoint is not None and is_led_to_a_broker(os.environ)
        self.variables = {name: shown_variable(name) for name in VARIABLES if os.environ.get(name)}
        self.other_hosts = [] if self.is_broker else [name for name in VARIABLES_OF_OTHER_HOSTS if os.environ.get(name)]
        self.probes = probe_audiences(self.environment, seconds or DEFAULT_SECONDS, progress)
        progress.show("asking az ...")
        self.az = inspect_az(seconds or DEFAULT_TIMEOUT)
        self.proxies = proxies(self.environment)
        self.programs = list(tools_on_path())

    @property
    def endpoint(self) -> str | None:
        """The endpoint's URL, without what a broker keeps secret in it."""
        endpoint = self.environment.endpoint
        return shown_url(endpoint.url) if endpoint else None

    @property
    def token(self) -> Token | None:
        """The token for Resource Manager; behind a broker, which may serve something else only, any token."""
        outcomes = [probe.outcome for probe in (self.probes if self.is_broker else self.probes[:1])]
        return next((outcome for outcome in outcomes if isinstance(outcome, Token)), None)

    @property
    def identity(self) -> Identity:
        """Whose that token is."""
        return self.token.identity if self.token else Identity()

    @property
    def is_somebody_else(self) -> bool:
        """Whether az is signed in as another user, or in another tenant, than Cloud Shell."""
        pairs = ((self.az.get("user"), self.identity.name), (self.az.get("tenant"), self.identity.tenant_id))
        return any(ours and theirs and str(ours).lower() != str(theirs).lower() for ours, theirs in pairs)


def probe_audiences(environment: Environment, seconds: float, progress: Progress) -> list[Probe]:
    """Ask for every well-known audience in turn, Resource Manager first."""
    if environment.endpoint is None:
        return []
    cloud = audiences.cloud_named(environment.cloud)
    probes: list[Probe] = []
    failed = 0
    for audience in audiences.KNOWN:
        resource = audiences.resource_for(audience.name, cloud) or audience.resource
        outcome: Token | Failure | None = None
        start = monotonic()
        if failed < MAX_FAILURES:
            progress.show(f"asking for {audience.name} ...")
            outcome = ask(environment.endpoint, resource, RetryPolicy(seconds, retry_total=0))
        probes.append(Probe(audience, resource, outcome, monotonic() - start))
        kind = outcome.kind if isinstance(outcome, Failure) else None
        if kind == "refused":
            break
        if outcome is not None:
            failed = failed + 1 if kind in ("timeout", "endpoint") else 0
    return probes


def shown_url(url: str) -> str:
    """A URL of this machine, without the secret that a broker's has in its path, and without a password."""
    try:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        return "(not a URL)"
    path = parts.path if parts.path in (*PATHS, "/", "") else "/…"
    return quoted(f"{origin}{path}", 100)


def shown_variable(name: str) -> str:
    """A variable's value, fit to be shown."""
    value = os.environ[name]
    return shown_url(value) if name.endswith("_ENDPOINT") else quoted(value, 100)


def proxies(environment: Environment) -> list[str]:
    """The proxy variables through which other tools would send token requests."""
    exempt = {host.strip() for name in ("NO_PROXY", "no_proxy") for host in os.environ.get(name, "").split(",")}
    if exempt & {"*", environment.endpoint.host if environment.endpoint else "localhost"}:
        return []
    return [name for name in PROXY_VARIABLES if os.environ.get(name)]


def inspect_az(seconds: float) -> dict[str, Any]:
    """Whether the Azure CLI is there, and who is signed in to it."""
    program = shutil.which("az")
    if program is None:
        return {"found": False}
    status, output = _run([program, "account", "show", "--output", "json"], seconds)
    if status is None:
        return {"found": True, "answered": False, "logged_in": False}
    account = read_json(output) if status == 0 else None
    if not isinstance(account, dict):
        return {"found": True, "answered": True, "logged_in": False}
    user = account.get("user")
    user = user if isinstance(user, dict) else {}
    return {
        "found": True,
        "answered": True,
        "logged_in": True,
        "user": _line(user.get("name")),
        "from_cloud_shell": user.get("cloudShellID") is True,
        "subscription": _line(account.get("name")),
        "tenant": _line(account.get("tenantId")),
    }


def _line(value: object) -> str | None:
    return quoted(value, 100) if isinstance(value, str) else None


def _run(command: Sequence[str], seconds: float) -> tuple[int | None, bytes]:
    """Run a program; its status and output, or None for one that takes longer or says more than is read."""
    environment = {**os.environ, "AZURE_CORE_NO_COLOR": "true"}
    try:
        process = subprocess.Popen(  # noqa: S603 - the az on the user's PATH is the one to examine
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            # So that it can be ended together with what it has started: az is a shell script around Python.
            start_new_session=True,
        )
    except OSError:
        return 127, b""
    output: list[bytes] = []
    with process, suppress(subprocess.TimeoutExpired):
        assert process.stdout is not None
        reader = Thread(target=lambda read: output.append(read(_MAX_OUTPUT)), args=(process.stdout.read,), daemon=True)
        reader.start()
        try:
            reader.join(seconds)
            if output and len(output[0]) < _MAX_OUTPUT:
                return process.wait(seconds), output[0]
        finally:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
    return None, b""


def advise(found: Findings) -> list[str]:
    """What to do, in sentences; the first one says whether there is a token."""
    if found.environment.endpoint is None:
        reason = failures.not_in_cloud_shell(found.environment.refusal, found.environment.other_host)
        return [reason.what, advice.for_doctor("sign_in", az_of(found))]
    failure = found.probes[0].failure
    if failure is not None and found.token is None:
        if failure.kind == "audience":
            return [failure.what, advice.for_doctor("restart", az_of(found))]
        if found.is_broker:
            return [advice.message(advice.as_the_broker_says(failure), advice.LED)]
        return [f"{failure.what} {advice.for_doctor(failure.cure, az_of(found), failure.details)}"]
    failed = [(probe, probe.failure.kind) for probe in found.probes if probe.failure]
    if not failed:
        return ["Nothing: there is a token for every resource that was asked for."]
    granted = sum(isinstance(probe.outcome, Token) for probe in found.probes)
    lines = [f"There are tokens for Azure Resource Manager and {count(granted - 1, 'more resource')}."]
    if failure is not None:
        lines = [f"There is a token for {count(granted, 'resource')}, but none for Azure Resource Manager."]
    if denied := sum(kind == "audience" for _, kind in failed):
        refused = f"{count(denied, 'resource')} {'is' if denied == 1 else 'are'} refused."
        if found.is_broker:
            lines.append(f"{refused} {advice.for_those_refused_by_a_broker()}")
        else:
            lines.append(f"{refused} {advice.for_doctor('sign_in', az_of(found))}")
    if others := [probe.name for probe, kind in failed if kind != "audience"]:
        lines.append(advice.for_those_that_failed(others))
    return lines


def az_of(found: Findings) -> AzureCli:
    """What is so with the Azure CLI, by what it said."""
    az = found.az
    if not az["found"]:
        state = AzureCli(azure_cli.ABSENT)
    elif not az["answered"]:
        state = AzureCli(azure_cli.SLOW)
    elif az["logged_in"]:
        whose = azure_cli.OWN if az["from_cloud_shell"] else azure_cli.SIGNED_IN
        state = AzureCli(whose, az["user"] or "an unnamed user")
    else:
        state = AzureCli(azure_cli.SIGNED_OUT)
    chosen = azure_cli.left_out(os.environ)
    return AzureCli(azure_cli.LEFT_OUT, chosen, beneath=state) if chosen else state
