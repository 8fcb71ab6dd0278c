"""``azure-cloudshell doctor``: what a user runs when something does not work."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from .._endpoint.environment import VARIABLES_OF_OTHER_HOSTS, Environment
from .._endpoint.failures import not_in_cloud_shell
from .._version import __version__
from ._doctor_checks import DEFAULT_SECONDS, VARIABLES, Findings, Probe, advise
from ._doctor_text import Text
from ._errors import CommandError
from ._foreground import say
from ._parser import Parser, timeout
from ._progress import Progress
from .token import DEFAULT_TIMEOUT

EXAMPLES = (
    "azure-cloudshell doctor",
    "azure-cloudshell doctor --report report.json    # to attach to a bug report: no token, no names",
)


def add_arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--all", action="store_true", help="also list the resources that are granted")
    parser.add_argument(
        "--timeout",
        type=timeout,
        metavar="SECONDS",
        help=f"for each answer ({DEFAULT_SECONDS:g}, and {DEFAULT_TIMEOUT:g} for az's)",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write a report on the endpoint to FILE (- for stdout), without tokens, users, tenants or subscriptions",
    )


def run(arguments: argparse.Namespace) -> int:
    """Examine, and say what to do. The exit status is 0 only if there is a token for Resource Manager."""
    if arguments.report:
        return _write_report(Environment(os.environ), arguments)
    with Progress() as progress:
        found = Findings(arguments.timeout, progress)
    if arguments.json:
        print(json.dumps(_as_json(found), indent=2))
    else:
        Text().show(found, all_resources=arguments.all)
    return 0 if found.token else 1


def _as_json(found: Findings) -> dict[str, Any]:
    """The findings, for programs."""
    user = found.identity
    return {
        "version": __version__,
        "works": found.token is not None,
        "advice": advise(found),
        "environment": {name: name in os.environ for name in (*VARIABLES, *VARIABLES_OF_OTHER_HOSTS)},
        "endpoint": found.endpoint,
        "broker": found.is_broker,
        "signed_in": {
            "user": user.name,
            "tenant": user.tenant_id,
            "object_id": user.object_id,
            "expires_on": found.token.expires_on if found.token else None,
        },
        "az": found.az,
        "audiences": [_probe_as_json(probe) for probe in found.probes],
        "proxies": found.proxies,
        "programs": [name for name, _ in found.programs],
    }


def _probe_as_json(probe: Probe) -> dict[str, Any]:
    status = "not asked" if probe.outcome is None else "failed" if probe.failure else "ok"
    return {"name": probe.name, "resource": probe.resource, "status": status, "reason": probe.reason or None}


def _write_report(environment: Environment, arguments: argparse.Namespace) -> int:
    from ._report import make_report

    if environment.endpoint is None:
        reason = not_in_cloud_shell(environment.refusal, environment.other_host).what
        say(f"azure-cloudshell: {reason} There is nothing to ask.")
    with Progress() as progress:
        report = make_report(environment, arguments.timeout or DEFAULT_SECONDS, progress)
    if report.stopped:
        say(f"azure-cloudshell: Stopped early, since {report.stopped}.")
    text = json.dumps(report.content, indent=2) + "\n"
    if arguments.report == "-":
        sys.stdout.write(text)
    else:
        try:
            Path(arguments.report).write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"Cannot write {arguments.report}: {error.strerror}.") from None
        held = "It holds no token, user, tenant or subscription; look at it before you share it."
        print(f"Wrote {arguments.report}. {held}")
    return 0 if report.works else 1
