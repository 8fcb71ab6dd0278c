"""``azure-cloudshell doctor``: what a user runs when something does not work."""

from __future__ import annotations

import argparse
import json
import os
from contextlib import nullcontext
from typing import Any

from .. import _environment, _protocol
from .._environment import VARIABLES_OF_OTHER_HOSTS, Environment
from .._protocol import Token
from .._version import __version__
from . import CommandError
from ._examination import VARIABLES, Question, advise, ask_all, examine_az, proxies
from ._page import Page


def run(arguments: argparse.Namespace) -> int:
    """Examine, and say what to do."""
    environment = _environment.read(os.environ)
    if arguments.report:
        return _write_report(environment, arguments)
    works = _print_json(environment, arguments.timeout) if arguments.json else _show(environment, arguments.timeout)
    return 0 if works else 1


def _show(environment: Environment, seconds: float) -> bool:
    """For people: each finding as soon as it is there.

    :return: whether there is a token for Resource Manager.
    """
    page = Page()
    page.environment(environment)
    questions: list[Question] = []
    for question in ask_all(environment, seconds, page.waiting_for):
        if environment.endpoint is not None and not questions:
            page.first_question(environment.endpoint, question)
        if question.outcome is not None:
            page.question(question)
        questions.append(question)
    if unasked := sum(question.outcome is None for question in questions):
        page.unasked(unasked)
    page.proxies(proxies())
    az = examine_az()
    page.az(az)
    advice, works = advise(environment, questions, az)
    page.advice(advice)
    return works


def _print_json(environment: Environment, seconds: float) -> bool:
    """For machines.

    :return: whether there is a token for Resource Manager.
    """
    questions = list(ask_all(environment, seconds, nullcontext))
    az = examine_az()
    advice, works = advise(environment, questions, az)
    first = questions[0].outcome if questions else None
    claims = _protocol.claims_of(first.value) if isinstance(first, Token) else {}
    findings = {
        "version": __version__,
        "works": works,
        "environment": {name: name in os.environ for name in (*VARIABLES, *VARIABLES_OF_OTHER_HOSTS)},
        "endpoint": environment.endpoint.url if environment.endpoint else None,
        "signed_in": {
            "user": _protocol.user_in(claims),
            "tenant": _protocol.shown_claim(claims, "tid"),
            "object_id": _protocol.shown_claim(claims, "oid"),
            "expires_on": first.expires_on if isinstance(first, Token) else None,
        },
        "audiences": [_as_json(question) for question in questions],
        "proxies": proxies(),
        "az": az,
        "advice": advice,
    }
    print(json.dumps(findings, indent=2))
    return works


def _as_json(question: Question) -> dict[str, Any]:
    status = "not asked" if question.outcome is None else "failed" if question.failure else "ok"
    return {
        "name": question.name,
        "resource": question.resource,
        "status": status,
        "reason": question.reason or None,
    }


def _write_report(environment: Environment, arguments: argparse.Namespace) -> int:
    from ._report import write_report

    try:
        works = write_report(environment, arguments.report, arguments.timeout)
    except OSError as error:
        raise CommandError(f"Cannot write {arguments.report}: {error.strerror}.") from None
    print(f"Wrote {arguments.report}. It holds no token, user, tenant or subscription; look at it before you share it.")
    return 0 if works else 1
