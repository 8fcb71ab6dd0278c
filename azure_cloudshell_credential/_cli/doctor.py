"""``azure-cloudshell doctor``: what a user runs when something does not work."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from time import monotonic, time
from typing import Any

from .. import _audiences, _environment, _failures, _protocol
from .._environment import Environment
from .._failures import Failure
from .._protocol import Patience, Token
from .._version import __version__
from . import CommandError
from .token import ask

_VARIABLES = (
    "MSI_ENDPOINT",
    *_environment.MARKERS,
    "ACC_TID",
    "MSI_SECRET",
    "IDENTITY_ENDPOINT",
)
_SECRET_VARIABLES = ("MSI_SECRET", "IDENTITY_ENDPOINT")
_PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
PATIENCE_WITH_SILENCE = 2
"""After so many questions without an answer the rest is not asked: a hanging portal answers none of them."""


class Question:
    """One audience that the endpoint was asked for, and what came of it."""

    def __init__(self, name: str, resource: str, outcome: Token | Failure | None, seconds: float) -> None:
        self.name = name
        self.resource = resource
        self.outcome = outcome
        self.seconds = seconds

    @property
    def mark(self) -> str:
        """``ok``, or ``no``."""
        return "ok" if isinstance(self.outcome, Token) else "no"

    @property
    def remark(self) -> str:
        """In a few words, why not."""
        if not isinstance(self.outcome, Failure):
            return ""
        return {
            "audience": "not supported",
            "portal": "the portal in the browser did not answer",
            "timeout": "no answer in time",
            "refused": "cannot be reached",
        }.get(self.outcome.kind, self.outcome.what)


def run(arguments: argparse.Namespace) -> int:
    """Examine, and say what to do."""
    environment = _environment.read(os.environ)
    if arguments.report:
        return _write_report(environment, arguments)
    show = not arguments.json
    page = _Page()
    if show:
        page.title(f"azure-cloudshell doctor {__version__}")
        _show_environment(page, environment)
    questions = []
    for question in ask_all(environment, arguments.timeout, show=show):
        questions.append(question)
        if show:
            _show_question(page, environment, question, is_first=len(questions) == 1)
    unasked = [question.name for question in questions if question.outcome is None]
    if show and unasked:
        page.line("-", f"{len(unasked)} more were not asked for: the endpoint is silent")
    proxies = [name for name in _PROXY_VARIABLES if os.environ.get(name)]
    az = examine_az()
    advice, works = advise(environment, questions, az)
    if show:
        _show_proxies(page, proxies)
        _show_az(page, az)
        page.heading("What to do")
        for line in advice:
            page.paragraph(line)
    else:
        print(json.dumps(_as_json(environment, questions, proxies, az, advice, works), indent=2))
    return 0 if works else 1


def ask_all(environment: Environment, seconds: float, *, show: bool) -> Iterator[Question]:
    """Ask for every well-known audience in turn, Resource Manager first."""
    if environment.endpoint is None:
        return
    cloud = _audiences.cloud_named(environment.cloud)
    silent = 0
    for audience in _audiences.KNOWN:
        resource = _audiences.named(audience.name, cloud) or audience.resource
        if silent >= PATIENCE_WITH_SILENCE:
            yield Question(audience.name, resource, None, 0.0)
            continue
        with _Progress(f"asking for {audience.name} ...", show=show):
            start = monotonic()
            outcome = ask(environment.endpoint, resource, Patience(seconds, retry_total=0))
        yield Question(audience.name, resource, outcome, monotonic() - start)
        if isinstance(outcome, Failure) and outcome.kind == "refused":
            return
        silent = silent + 1 if isinstance(outcome, Failure) and outcome.kind == "timeout" else 0


def examine_az() -> dict[str, Any]:
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


def advise(environment: Environment, questions: list[Question], az: Mapping[str, Any]) -> tuple[list[str], bool]:
    """What to do, and whether there is a token for Resource Manager."""
    has_az = bool(az.get("logged_in"))
    login = "The Azure CLI is logged in: " if has_az else "Run 'az login', then "
    chain = f"{login}ChainedTokenCredential(CloudShellCredential(), AzureCliCredential()) uses its login."
    if environment.endpoint is None:
        return [_failures.not_in_cloud_shell(environment.refusal).message, *([chain] if has_az else [])], False
    first = questions[0]
    if isinstance(first.outcome, Failure):
        lines = [first.outcome.message]
        if first.outcome.kind == "audience":
            lines = [f"{first.outcome.what} Open a new Cloud Shell in the portal, or sign in with 'az login'."]
        return [*lines, chain], False
    lines = []
    if denied := [question.name for question in questions if question.remark == "not supported"]:
        lines.append(f"Cloud Shell has no tokens for: {', '.join(denied)}. For these, {chain[0].lower()}{chain[1:]}")
    others = [question.name for question in questions if question.outcome and question.mark == "no"]
    others = [name for name in others if name not in denied]
    if others:
        lines.append(f"Keep the browser tab with Cloud Shell open and active, and try again for: {', '.join(others)}.")
    return ["Nothing: Cloud Shell hands out tokens for Azure Resource Manager.", *lines], True


class _Page:
    """Prints in colour where the terminal has it."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def title(self, text: str) -> None:
        print(self._paint("1", text))

    def heading(self, text: str) -> None:
        print(f"\n{self._paint('1', text)}")

    def paragraph(self, text: str) -> None:
        if sys.stdout.isatty():
            width = max(40, shutil.get_terminal_size().columns)
            text = textwrap.fill(text, width - 2, break_long_words=False).replace("\n", "\n  ")
        print(f"  {text}")

    def line(self, mark: str, text: str) -> None:
        colours = {"ok": "32", "no": "31", "!": "33"}
        padded = f"{mark:<4}" if mark else ""
        print(f"  {self._paint(colours[mark], padded) if mark in colours else padded}{text}", flush=True)


class _Progress:
    """Says on a terminal what is being waited for, and takes it back."""

    def __init__(self, text: str, *, show: bool) -> None:
        self._text = f"  {text}" if show and sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else ""

    def __enter__(self) -> None:
        sys.stdout.write(self._text)
        sys.stdout.flush()

    def __exit__(self, *args: object) -> None:
        if self._text:
            sys.stdout.write("\r" + " " * len(self._text) + "\r")


def _show_environment(page: _Page, environment: Environment) -> None:
    page.heading("Environment")
    for name in _VARIABLES:
        value = os.environ.get(name)
        if value and name in _SECRET_VARIABLES:
            page.line("!", f"{name} is set: MSI_ENDPOINT then belongs to another service than Cloud Shell")
        elif value and name not in _SECRET_VARIABLES:
            page.line("ok", f"{name}={_failures.quotable(value, 100).rstrip('.')}")
        elif name not in _SECRET_VARIABLES:
            page.line("-", f"{name} is not set")
    page.heading("Endpoint")
    if environment.endpoint is None:
        page.line("no", environment.refusal or "none: this is not Cloud Shell")


def _show_question(page: _Page, environment: Environment, question: Question, *, is_first: bool) -> None:
    if is_first:
        assert environment.endpoint is not None
        outcome = question.outcome
        answers = isinstance(outcome, Token) or (
            isinstance(outcome, Failure) and outcome.kind not in ("refused", "timeout")
        )
        what = f"answered in {question.seconds * 1000:.0f} ms" if answers else question.remark
        page.line("ok" if answers else "no", f"{environment.endpoint.url}: {what}")
        if isinstance(outcome, Token):
            claims = _protocol.claims_of(outcome.value)
            page.heading("Signed in")
            page.line("ok", f"user       {claims.get('upn') or claims.get('unique_name') or 'not named by the token'}")
            page.line("ok", f"tenant     {claims.get('tid', 'not named by the token')}")
            page.line("ok", f"object id  {claims.get('oid', 'not named by the token')}")
            page.line("ok", f"token      lives for another {(outcome.expires_on - time()) / 60:.0f} minutes")
        page.heading("Audiences")
    if question.outcome is None:
        return
    remark = f"  ({question.remark})" if question.remark else ""
    page.line(question.mark, f"{question.name:<18} {question.resource}{remark}")


def _show_proxies(page: _Page, proxies: list[str]) -> None:
    page.heading("Proxies")
    for name in proxies:
        page.line("!", f"{name} is set: other tools send token requests through it unless NO_PROXY names localhost")
    if not proxies:
        page.line("ok", "no proxy variable that would catch token requests of other tools")


def _show_az(page: _Page, az: Mapping[str, Any]) -> None:
    page.heading("Azure CLI")
    if not az["found"]:
        page.line("-", "az is not on PATH")
    elif not az["logged_in"]:
        page.line("no", "az is there, but nobody is logged in")
    else:
        how = ", through Cloud Shell" if az["from_cloud_shell"] else ""
        page.line("ok", f"logged in as {az['user']} in tenant {az['tenant']}, subscription {az['subscription']}{how}")


def _as_json(
    environment: Environment,
    questions: list[Question],
    proxies: list[str],
    az: Mapping[str, Any],
    advice: list[str],
    works: bool,
) -> dict[str, Any]:
    first = questions[0].outcome if questions else None
    claims = _protocol.claims_of(first.value) if isinstance(first, Token) else {}
    return {
        "version": __version__,
        "works": works,
        "environment": {name: name in os.environ for name in _VARIABLES},
        "endpoint": environment.endpoint.url if environment.endpoint else None,
        "signed_in": {
            "user": claims.get("upn") or claims.get("unique_name"),
            "tenant": claims.get("tid"),
            "object_id": claims.get("oid"),
            "expires_on": first.expires_on if isinstance(first, Token) else None,
        },
        "audiences": [
            {
                "name": question.name,
                "resource": question.resource,
                "status": {"ok": "ok", "no": "failed"}[question.mark] if question.outcome else "not asked",
                "reason": question.remark or None,
            }
            for question in questions
        ],
        "proxies": proxies,
        "az": dict(az),
        "advice": advice,
    }


def _write_report(environment: Environment, arguments: argparse.Namespace) -> int:
    from ._report import write_report

    try:
        works = write_report(environment, arguments.report, arguments.timeout)
    except OSError as error:
        raise CommandError(f"Cannot write {arguments.report}: {error.strerror}.") from None
    print(f"Wrote {arguments.report}. It holds no token, user, tenant or subscription; look at it before you share it.")
    return 0 if works else 1
