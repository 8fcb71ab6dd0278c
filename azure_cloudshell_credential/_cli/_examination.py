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

from .. import _audiences, _environment, _failures
from .._acquisition import RetryPolicy
from .._environment import Environment
from .._failures import Failure
from .._protocol import Token
from .token import ask

VARIABLES = ("MSI_ENDPOINT", *_environment.MARKERS, "ACC_TID")
"""What the environment of Cloud Shell is told by."""

PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")

MAX_CONSECUTIVE_TIMEOUTS = 2
"""After so many timeouts in a row the other audiences are skipped: a hanging portal answers for none of them."""


class Question:
    """One audience that the endpoint was asked for.

    :param outcome: what came of it; None if it was not asked after all.
    :param seconds: how long that took.
    """

    def __init__(self, name: str, resource: str, outcome: Token | Failure | None, seconds: float) -> None:
        self.name = name
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


def ask_all(
    environment: Environment, seconds: float, waiting_for: Callable[[str], AbstractContextManager[object]]
) -> Iterator[Question]:
    """Ask for every well-known audience in turn, Resource Manager first.

    :param seconds: for each question at most.
    :param waiting_for: entered while one audience is asked for, given its name.
    """
    if environment.endpoint is None:
        return
    cloud = _audiences.cloud_named(environment.cloud)
    timeouts = 0
    for audience in _audiences.KNOWN:
        resource = _audiences.resource_for(audience.name, cloud) or audience.resource
        if timeouts >= MAX_CONSECUTIVE_TIMEOUTS:
            yield Question(audience.name, resource, None, 0.0)
            continue
        with waiting_for(audience.name):
            start = monotonic()
            outcome = ask(environment.endpoint, resource, RetryPolicy(seconds, retry_total=0))
        question = Question(audience.name, resource, outcome, monotonic() - start)
        yield question
        kind = question.failure.kind if question.failure else None
        if kind == "refused":
            return
        timeouts = timeouts + 1 if kind == "timeout" else 0


def proxies() -> list[str]:
    """The proxy variables that are set."""
    return [name for name in PROXY_VARIABLES if os.environ.get(name)]


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
    # The login that az has in Cloud Shell from the start gets its tokens from the same endpoint.
    has_az = bool(az.get("logged_in")) and not az.get("from_cloud_shell")
    if has_az:
        start = "The Azure CLI is logged in:"
    elif az.get("from_cloud_shell"):
        start = "Run 'az login' (the Azure CLI's present login is Cloud Shell's own and gets no other tokens), then"
    else:
        start = "Run 'az login', then"
    chain = f"{start} DefaultCloudShellCredential() uses that login."
    if environment.endpoint is None:
        return [_failures.not_in_cloud_shell(environment.refusal).message, *([chain] if has_az else [])], False
    if failure := questions[0].failure:
        if failure.kind == "audience":
            return [f"{failure.what} Open a new Cloud Shell in the portal, or sign in with 'az login'.", chain], False
        return [failure.message, chain], False
    lines = ["Nothing to do: Cloud Shell issues tokens for Azure Resource Manager."]
    failures = [(question.name, question.failure.kind) for question in questions if question.failure]
    if denied := [name for name, kind in failures if kind == "audience"]:
        lines.append(f"Cloud Shell has no tokens for: {', '.join(denied)}. {chain}")
    if others := [name for name, kind in failures if kind != "audience"]:
        lines.append(f"Keep the browser tab with Cloud Shell open and active, and try again for: {', '.join(others)}.")
    return lines, True
