"""How ``doctor`` shows what it finds."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import time
from typing import Any

from .._endpoint import failures, protocol
from .._endpoint.environment import VARIABLES_OF_OTHER_HOSTS, Endpoint, Environment
from .._endpoint.protocol import Token
from .._version import __version__
from ._examination import VARIABLES, Probe

_COLOURS = {"ok": "32", "no": "31", "!": "33"}


class Page:
    """Prints section by section, in colour where the terminal has it."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._has_colour = self._is_terminal and not os.environ.get("NO_COLOR")

    @contextmanager
    def waiting_for(self, name: str) -> Iterator[None]:
        """Say on a terminal what is being asked for, and take it back."""
        text = f"  asking for {name} ..." if self._is_terminal else ""
        print(text, end="", flush=True)
        try:
            yield
        finally:
            if text:
                print("\r" + " " * len(text), end="\r")

    def environment(self, environment: Environment) -> None:
        """The variables, and whether this is Cloud Shell."""
        print(self._painted("1", f"azure-cloudshell doctor {__version__}"))
        self._heading("Environment")
        others = [name for name in VARIABLES_OF_OTHER_HOSTS if os.environ.get(name)]
        for name in VARIABLES:
            if value := os.environ.get(name):
                self._line("!" if others and name == "MSI_ENDPOINT" else "ok", f"{name}={failures.quoted(value, 100)}")
            else:
                self._line("-", f"{name} is not set")
        for name in others:
            self._line("!", f"{name} is set: MSI_ENDPOINT then belongs to App Service or Azure ML, and is not asked")
        self._heading("Endpoint")
        if environment.endpoint is None:
            self._line("no", environment.refusal or "no endpoint: this is not Cloud Shell")

    def first_probe(self, endpoint: Endpoint, probe: Probe) -> None:
        """What the first answer says of the endpoint and of the user."""
        if probe.failure and probe.failure.kind in ("refused", "timeout"):
            self._line("no", f"{endpoint.url}: {probe.reason}")
        else:
            self._line("ok", f"{endpoint.url}: answered in {probe.seconds * 1000:.0f} ms")
        if isinstance(probe.outcome, Token):
            claims = protocol.claims_of(probe.outcome.value)
            self._heading("Signed in")
            self._line("ok", f"user       {protocol.user_in(claims) or 'not named by the token'}")
            self._line("ok", f"tenant     {protocol.shown_claim(claims, 'tid') or 'not named by the token'}")
            self._line("ok", f"object id  {protocol.shown_claim(claims, 'oid') or 'not named by the token'}")
            for name, shown in (("scp", "scopes"), ("roles", "roles"), ("wids", "directory roles")):
                if said := _permissions(claims.get(name)):
                    self._line("ok", f"{shown:<10} {said}")
            minutes = (probe.outcome.expires_on - time()) / 60
            self._line("ok", f"token      is valid for another {failures.count(round(minutes), 'minute')}")
        self._heading("Audiences")

    def probe(self, probe: Probe) -> None:
        """Whether there is a token for one audience."""
        remark = f"  ({probe.reason})" if probe.reason else ""
        self._line("no" if probe.failure else "ok", f"{probe.name:<18} {probe.resource}{remark}")

    def unasked(self, count: int) -> None:
        """How many audiences were left out."""
        self._line("-", f"{count} more were not asked for: the endpoint is not answering")

    def proxies(self, names: list[str]) -> None:
        """The proxy variables that are set."""
        self._heading("Proxies")
        for name in names:
            self._line(
                "!", f"{name} is set: other tools send token requests through it unless NO_PROXY names localhost"
            )
        if not names:
            self._line("ok", "no proxy variable that would intercept other tools' token requests")

    def az(self, az: Mapping[str, Any]) -> None:
        """The Azure CLI and its login."""
        self._heading("Azure CLI")
        if not az["found"]:
            self._line("-", "az is not on PATH")
        elif not az["logged_in"]:
            self._line("no", "az is installed but not logged in")
        else:
            how = ", through Cloud Shell" if az["from_cloud_shell"] else ""
            login = f"logged in as {az['user']} in tenant {az['tenant']}, subscription {az['subscription']}{how}"
            self._line("ok", login)

    def tools(self, tools: Iterable[tuple[str, str]]) -> None:
        """The usual programs, and how they get their tokens."""
        found = list(tools)
        if found:
            self._heading("Programs")
        for name, how in found:
            self._line("-", f"{name:<10} {how}")

    def advice(self, lines: list[str]) -> None:
        """What to do."""
        self._heading("What to do")
        for line in lines:
            # Elsewhere than on a terminal each piece of advice is one line, for grep.
            parts = [line]
            if self._is_terminal:
                width = max(40, shutil.get_terminal_size().columns) - 2
                parts = textwrap.wrap(line, width, break_long_words=False)
            print("\n".join(f"  {part}" for part in parts))

    def _heading(self, text: str) -> None:
        print(f"\n{self._painted('1', text)}")

    def _line(self, mark: str, text: str) -> None:
        padded = f"{mark:<4}"
        print(f"  {self._painted(_COLOURS[mark], padded) if mark in _COLOURS else padded}{text}", flush=True)

    def _painted(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._has_colour else text


def _permissions(claim: object) -> str:
    """A claim that lists permissions, as one line: a string with blanks between them, or a list."""
    text = " ".join(map(str, claim)) if isinstance(claim, list) else claim
    return failures.quoted(text, 200) if isinstance(text, str) else ""
