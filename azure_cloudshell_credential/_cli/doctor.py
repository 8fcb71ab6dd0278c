"""``azure-cloudshell doctor``: what a user runs when something does not work."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from .._endpoint import protocol
from .._endpoint.environment import VARIABLES_OF_OTHER_HOSTS, Environment, read_environment
from .._endpoint.failures import not_in_cloud_shell
from .._endpoint.protocol import Token
from .._version import __version__
from . import CommandError
from ._examination import VARIABLES, Probe, advise, inspect_az, probe_audiences, proxies
from ._page import Page
from ._tools import tools_on_path


def run(arguments: argparse.Namespace) -> int:
    """Examine, and say what to do."""
    environment = read_environment(os.environ)
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
    probes: list[Probe] = []
    for probe in probe_audiences(environment, seconds, page.waiting_for):
        if environment.endpoint is not None and not probes:
            page.first_probe(environment.endpoint, probe)
        if probe.outcome is not None:
            page.probe(probe)
        probes.append(probe)
    if unasked := sum(probe.outcome is None for probe in probes):
        page.unasked(unasked)
    page.proxies(proxies())
    az = inspect_az()
    page.az(az)
    page.tools(tools_on_path())
    advice, works = advise(environment, probes, az)
    page.advice(advice)
    return works


def _print_json(environment: Environment, seconds: float) -> bool:
    """For machines.

    :return: whether there is a token for Resource Manager.
    """
    probes = list(probe_audiences(environment, seconds, nullcontext))
    az = inspect_az()
    advice, works = advise(environment, probes, az)
    first = probes[0].outcome if probes else None
    claims = protocol.claims_of(first.value) if isinstance(first, Token) else {}
    findings = {
        "version": __version__,
        "works": works,
        "environment": {name: name in os.environ for name in (*VARIABLES, *VARIABLES_OF_OTHER_HOSTS)},
        "endpoint": environment.endpoint.url if environment.endpoint else None,
        "signed_in": {
            "user": protocol.user_in(claims),
            "tenant": protocol.shown_claim(claims, "tid"),
            "object_id": protocol.shown_claim(claims, "oid"),
            "expires_on": first.expires_on if isinstance(first, Token) else None,
        },
        "audiences": [_as_json(probe) for probe in probes],
        "proxies": proxies(),
        "az": az,
        "advice": advice,
    }
    print(json.dumps(findings, indent=2))
    return works


def _as_json(probe: Probe) -> dict[str, Any]:
    status = "not asked" if probe.outcome is None else "failed" if probe.failure else "ok"
    return {
        "name": probe.name,
        "resource": probe.resource,
        "status": status,
        "reason": probe.reason or None,
    }


def _write_report(environment: Environment, arguments: argparse.Namespace) -> int:
    from ._report import make_report

    if environment.endpoint is None:
        reason = not_in_cloud_shell(environment.refusal, environment.other_host).what
        print(f"azure-cloudshell: {reason} There is nothing to ask.", file=sys.stderr)
    report, works = make_report(environment, arguments.timeout)
    text = json.dumps(report, indent=2) + "\n"
    if arguments.report == "-":
        sys.stdout.write(text)
    else:
        try:
            Path(arguments.report).write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"Cannot write {arguments.report}: {error.strerror}.") from None
        held = "It holds no token, user, tenant or subscription; look at it before you share it."
        print(f"Wrote {arguments.report}. {held}")
    return 0 if works else 1
