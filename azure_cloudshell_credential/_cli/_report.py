"""``doctor --report``: what the endpoint does, without saying to whom.

It asks for each field of the emulator's behaviour, and for every known resource in each spelling, one request for each.
Of what the endpoint says, only known words and numbers are written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from time import monotonic, strftime, time
from typing import Any, NamedTuple
from urllib.parse import urlencode

from .._endpoint import audiences
from .._endpoint.environment import DEFAULT_ENDPOINT, Endpoint, Environment
from .._endpoint.token import claims_of
from .._version import __version__
from ..emulator._questions import GRANTED, TOKEN_PATH, Answer, Question, of_the_portal, outcome
from ..emulator._services import observations
from ..emulator.behaviour import Assumption, assumptions
from ._known_words import allowed, shown
from ._progress import Progress

_MAX_FAILURES = 2
"""Requests in a row without an answer before the rest is not asked."""

_MAX_PORTAL_TIMEOUTS = 3
"""Timeouts of the portal in a row before the rest is not asked: each takes it some 9 seconds."""

_MAX_BODY = 1_000_000
_CLOUDS = {"PROD", "Fairfax", "Mooncake", "BlackForest", "USNat", "USSec"}
"""The values of ``ACC_CLOUD`` that Cloud Shell's own startup knows (PSCloudShellStartup.ps1)."""

_PREFIXES = ("ACC_", "AZD_", "MSI_", "IDENTITY_", "AZUREPS_", "AZURE_HTTP_", "POWERSHELL_")


class Report(NamedTuple):
    """The report.

    :param works: whether the endpoint has a token for Resource Manager.
    :param stopped: why the rest was not asked; empty if everything was.
    """

    content: dict[str, Any]
    works: bool
    stopped: str


def make_report(environment: Environment, seconds: float, progress: Progress) -> Report:
    """Ask, and describe what came of it.

    :param seconds: per request.
    """
    answers: dict[Question, Answer | str] = {}
    took: dict[Question, float] = {}
    questions = list(_questions()) if environment.endpoint is not None else []
    patience = _Patience()
    for index, question in enumerate(questions, 1):
        if environment.endpoint is None or patience.ends:
            break
        progress.show(f"{index} of {len(questions)}")
        start = monotonic()
        before = answers.get(question._replace(repeats=False))
        answer = _ask(environment.endpoint, question, seconds, before if isinstance(before, Answer) else None)
        answers[question], took[question] = answer, round(monotonic() - start, 3)
        patience.notice(answer)
    stopped = f"{patience.ends}: {len(answers)} of {len(questions)} requests were sent" if patience.ends else ""
    cloud = environment.cloud
    described = [
        {**_described(question, answer), "seconds": took[question]}
        for question, answer in answers.items()
        if question == Question(resource=question.resource) and question.resource
    ]
    report = {
        "version": __version__,
        "month": strftime("%Y-%m"),
        "cloud": cloud if cloud in _CLOUDS else "another" if cloud else None,
        # Their names tell which host has opened Cloud Shell: the portal, Windows Terminal, Visual Studio Code.
        "variables": sorted(str(allowed(name)) for name in os.environ if name.startswith(_PREFIXES)),
        "endpoint_is_the_documented_one": bool(environment.endpoint and environment.endpoint.url == DEFAULT_ENDPOINT),
        "headers": sorted(
            {str(allowed(name)) for answer in answers.values() if isinstance(answer, Answer) for name in answer.headers}
        ),
        "assumptions": [_compared(each, answers) for each in assumptions()],
        "answers": described,
        "stopped": stopped or None,
    }
    return Report(report, bool(described) and described[0]["outcome"] == "token", stopped)


class _Patience:
    """Notices when it is no use to go on asking.

    :ivar ends: why; empty while it is of use.
    """

    def __init__(self) -> None:
        self._failures = self._portal_timeouts = 0
        self.ends = ""

    def notice(self, answer: Answer | str) -> None:
        """Take an answer into account."""
        self._failures = self._failures + 1 if isinstance(answer, str) else 0
        is_of_the_portal = isinstance(answer, Answer) and of_the_portal(answer) is not None
        self._portal_timeouts = self._portal_timeouts + 1 if is_of_the_portal else 0
        if self._failures >= _MAX_FAILURES:
            self.ends = f"the endpoint did not answer {_MAX_FAILURES} requests in a row"
        elif self._portal_timeouts >= _MAX_PORTAL_TIMEOUTS:
            self.ends = f"the portal did not answer {_MAX_PORTAL_TIMEOUTS} requests in a row"


def _questions() -> Iterator[Question]:
    """Each once: those of the behaviour, and every known resource with and without its slash and under its id."""
    resources: list[str] = []
    for audience in audiences.KNOWN:
        for identifier in audience.identifiers:
            resources.append(identifier)
            if "://" in identifier:
                resources.append(identifier.rstrip("/") if identifier.endswith("/") else f"{identifier}/")
    resources += [row.resource for row in observations()]
    of_the_fields = [each.question for each in assumptions() if each.question is not None]
    asked_again = [question for question in of_the_fields if question.repeats]
    others = [question for question in of_the_fields if not question.repeats]
    yield from dict.fromkeys([*others, *(Question(resource=resource) for resource in resources), *asked_again])


def _ask(endpoint: Endpoint, question: Question, seconds: float, before: Answer | None) -> Answer | str:
    """The answer, or why there is none."""
    fields = [*question.more, *([("resource", question.resource)] if question.resource is not None else [])]
    form = urlencode(fields)
    target = question.path.replace(TOKEN_PATH, endpoint.target)
    headers = {} if question.metadata is None else {"Metadata": question.metadata}
    connection = HTTPConnection(endpoint.host, endpoint.port, timeout=seconds)
    try:
        if question.method == "GET":
            connection.request("GET", f"{target}?{form}" if form else target, headers=headers)
        else:
            if question.is_form:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = iter([form.encode()]) if question.is_chunked else form.encode()
            connection.request(question.method, target, body, headers, encode_chunked=question.is_chunked)
        reply = connection.getresponse()
        body = reply.read(_MAX_BODY)
    except TimeoutError:
        return "no answer in time"
    except (OSError, HTTPException):
        return "no connection or no HTTP"
    finally:
        connection.close()
    answer = Answer(
        question, reply.status, {name.lower(): value for name, value in reply.getheaders()}, body, {}, time(), before
    )
    token = answer.content.get("access_token")
    return answer._replace(claims=claims_of(token) if isinstance(token, str) else {})


def _described(question: Question, answer: Answer | str) -> dict[str, Any]:
    """What came of asking for a resource."""
    asked = {"resource": question.resource}
    if isinstance(answer, str):
        return {**asked, "outcome": answer}
    described = {**asked, "outcome": "reply", "status": answer.status}
    if outcome(answer) == GRANTED:
        return {**described, "outcome": "token", "token_is_for": allowed(str(answer.claims.get("aud", "missing")))}
    if "error" in answer.content:
        return {**described, "outcome": "error", "error": allowed(": ".join(answer.error))}
    return described


def _compared(each: Assumption, answers: dict[Question, Answer | str]) -> dict[str, Any]:
    """What is assumed, what was seen, and whether it is the same; None where nothing was seen."""
    looked_at = answers.values() if each.question is None else [answers.get(each.question)]
    seen = next(
        (what for answer in looked_at if isinstance(answer, Answer) and (what := each.seen_in(answer)) is not None),
        None,
    )
    return {
        "about": each.name,
        "assumed": shown(each.assumed, each.question),
        "source": each.source,
        "seen": allowed(shown(seen, each.question)),
        "same": None if seen is None else seen == each.assumed,
    }
