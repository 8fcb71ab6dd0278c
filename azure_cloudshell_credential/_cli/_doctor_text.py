"""What ``doctor`` shows to people."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from time import time

from .._endpoint.text import count
from .._endpoint.token import Token
from .._version import __version__
from ._doctor_checks import MAX_FAILURES, VARIABLES, Findings, advise

_COLOURS = {"ok": "32", "no": "31", "!": "33"}


class Text:
    """Prints section by section, in colour where the terminal has it.

    On a terminal, lines are broken between words. Elsewhere each finding is one line, for grep.
    """

    def __init__(self) -> None:
        is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._has_colour = is_terminal and not os.environ.get("NO_COLOR")
        self._width = max(40, shutil.get_terminal_size().columns) if is_terminal else 0

    def show(self, found: Findings, *, all_resources: bool) -> None:
        """Print everything; what to do comes first."""
        print(self._painted("1", f"azure-cloudshell doctor {__version__}"))
        self._heading("What to do")
        for line in advise(found):
            self._print("", line)
        self._environment(found)
        self._endpoint(found)
        self._user(found)
        self._az(found)
        self._resources(found, all_resources=all_resources)
        if found.programs:
            self._heading("Programs")
        for name, how in found.programs:
            self._finding("-", f"{name:<10} {how}")

    def _environment(self, found: Findings) -> None:
        self._heading("Environment")
        for name, value in found.variables.items():
            self._finding("!" if found.other_hosts and name == "MSI_ENDPOINT" else "ok", f"{name}={value}")
        if missing := [name for name in VARIABLES if name not in found.variables]:
            self._finding("-", f"not set: {', '.join(missing)}")
        for name in found.other_hosts:
            self._finding("!", f"{name} is set: MSI_ENDPOINT belongs to App Service or Azure ML, and is not asked")
        for name in found.proxies:
            self._finding("!", f"{name} is set: other tools send token requests through it unless NO_PROXY exempts it")

    def _endpoint(self, found: Findings) -> None:
        self._heading("Endpoint")
        if found.is_broker:
            self._finding("-", "a broker (azure-cloudshell run or serve) stands before Cloud Shell")
        if not found.probes:
            self._finding("no", found.environment.refusal or "none: this is not Cloud Shell")
        elif (first := found.probes[0]).failure and first.failure.kind in ("refused", "timeout"):
            self._finding("no", f"{found.endpoint}: {first.reason}")
        else:
            self._finding("ok", f"{found.endpoint}: answered in {first.seconds * 1000:.0f} ms")

    def _user(self, found: Findings) -> None:
        if found.token is None:
            return
        user = found.identity
        self._heading("Signed in")
        self._finding("ok", f"user       {user.name or 'not named by the token'}")
        self._finding("ok", f"tenant     {user.tenant_id or 'not named by the token'}")
        self._finding("ok", f"object id  {user.object_id or 'not named by the token'}")
        minutes = round((found.token.expires_on - time()) / 60)
        self._finding("ok", f"token      valid for another {count(minutes, 'minute')}")

    def _az(self, found: Findings) -> None:
        self._heading("Azure CLI")
        az = found.az
        if not az["found"]:
            self._finding("-", "az is not on PATH")
        elif not az["answered"]:
            self._finding("no", "az did not answer in time")
        elif not az["logged_in"]:
            self._finding("no", "az is not signed in")
        else:
            mark, whose = "ok", ""
            if az["from_cloud_shell"]:
                whose = ": Cloud Shell's own sign-in, which is refused the same resources"
            elif found.is_somebody_else:
                mark, whose = "!", ": a different user from Cloud Shell's"
            who = f"{az['user'] or 'an unnamed user'} in tenant {az['tenant'] or 'unknown'}"
            self._finding(mark, f"signed in as {who}, subscription {az['subscription'] or 'unknown'}{whose}")

    def _resources(self, found: Findings, *, all_resources: bool) -> None:
        if not found.probes:
            return
        self._heading("Resources")
        granted = [probe for probe in found.probes if isinstance(probe.outcome, Token)]
        if all_resources:
            for probe in granted:
                self._finding("ok", f"{probe.name:<17} {probe.resource}")
        elif granted:
            self._finding("ok", f"{count(len(granted), 'resource')} granted; --all lists them")
        for probe in found.probes:
            if probe.failure:
                is_refused = probe.failure.kind == "audience"
                reason = "" if is_refused else f"  ({probe.reason})"
                self._finding("no", f"{probe.name:<17} {probe.resource}{reason}")
                if is_refused and probe.workaround:
                    self._finding("", f"{probe.workaround}.")
        if unasked := sum(probe.outcome is None for probe in found.probes):
            self._finding("-", f"{unasked} more were not asked for after {MAX_FAILURES} failures in a row")

    def _heading(self, text: str) -> None:
        print(f"\n{self._painted('1', text)}")

    def _finding(self, mark: str, text: str) -> None:
        padded = f"{mark:<4}"
        self._print(self._painted(_COLOURS[mark], padded) if mark in _COLOURS else padded, text, indent=4)

    def _print(self, start: str, text: str, indent: int = 0) -> None:
        lines = [text]
        if self._width:
            lines = textwrap.wrap(text, self._width - 2 - indent, break_long_words=False, break_on_hyphens=False)
        print("\n".join(f"  {start if number == 0 else ' ' * indent}{line}" for number, line in enumerate(lines)))

    def _painted(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._has_colour else text
