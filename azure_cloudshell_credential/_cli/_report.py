"""``doctor --report``: what the endpoint does, without saying to whom.

Answers what is not publicly known of the endpoint: which audiences answer in which spelling, whether ``resource`` is
echoed, whether a cached token's ``expires_in`` is recomputed, what failures look like. Only names, types and numbers
are written; of values, those that are the same for everyone. Error messages are written with everything taken out of
them that could name a person, a tenant or a subscription.
"""

from __future__ import annotations

import json
import os
import re
import sys
from time import monotonic, strftime, time
from typing import Any

from .._endpoint import audiences, exchange, failures, protocol, services
from .._endpoint.environment import DEFAULT_ENDPOINT, Endpoint, Environment
from .._endpoint.protocol import NoReply, Reply
from .._version import __version__
from ._doctor_checks import MAX_CONSECUTIVE_TIMEOUTS
from .token import HEADERS

_GUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_ADDRESS = re.compile(r"[^\s@'\"<>,;()]+@[^\s@'\"<>,;()]+")
_URL = re.compile(r"https?://[^\s'\"<>,;()]+")
_NUMBERS = {"expires_in", "expires_on", "not_before"}
_SHORTEST_NAME = 3
_CLOUDS = {"PROD", "Fairfax", "Mooncake", "BlackForest", "USNat", "USSec"}
"""The values of ``ACC_CLOUD`` that Cloud Shell's own startup knows (PSCloudShellStartup.ps1)."""


def make_report(environment: Environment, seconds: float) -> tuple[dict[str, Any], bool]:
    """Ask, and describe what came of it.

    :param seconds: per request.
    :return: the report, and whether the endpoint has a token for Resource Manager.
    """
    answers: list[dict[str, Any]] = []
    names = {value for name, value in os.environ.items() if name.startswith("ACC_") and name != "ACC_CLOUD"}
    resources = _spellings() if environment.endpoint is not None else []
    timeouts = 0
    for index, resource in enumerate(resources):
        if environment.endpoint is None or timeouts >= MAX_CONSECUTIVE_TIMEOUTS:
            break
        if sys.stderr.isatty():
            print(f"\r{index + 1} of {len(resources)}", end="", file=sys.stderr, flush=True)
        answers.append(_answer(environment.endpoint, resource, seconds, names))
        timeouts = timeouts + 1 if answers[-1]["outcome"] == "no answer in time" else 0
    if answers and sys.stderr.isatty():
        print("\r" + " " * 20, end="\r", file=sys.stderr, flush=True)
    prefixes = ("ACC_", "AZD_", "MSI_", "IDENTITY_", "AZUREPS_", "AZURE_HTTP_", "POWERSHELL_")
    cloud = environment.cloud
    report = {
        "version": __version__,
        "month": strftime("%Y-%m"),
        "cloud": cloud if cloud in _CLOUDS else "another" if cloud else None,
        # Their names tell which host has opened Cloud Shell: the portal, Windows Terminal, Visual Studio Code.
        "variables": sorted({name for name in os.environ if name.startswith(prefixes)}),
        "endpoint_is_the_documented_one": bool(environment.endpoint and environment.endpoint.url == DEFAULT_ENDPOINT),
        "answers": answers,
    }
    return report, any(answer["outcome"] == "token" for answer in answers[:1])


def _spellings() -> list[str]:
    """Every known resource with and without its slash, and under its application id; Resource Manager first, twice."""
    spellings: list[str] = []
    for audience in audiences.KNOWN:
        for spelling in audience.identifiers:
            spellings.append(spelling)
            if "://" in spelling:
                spellings.append(spelling.rstrip("/") if spelling.endswith("/") else f"{spelling}/")
    seen = (row.resource for row in services.observations())
    return [spellings[0], *dict.fromkeys([*spellings, *seen])]


def _answer(endpoint: Endpoint, resource: str, seconds: float, names: set[str]) -> dict[str, Any]:
    start = monotonic()
    reply = exchange.post(endpoint, HEADERS, protocol.form(resource), seconds)
    asked: dict[str, Any] = {"resource": resource, "seconds": round(monotonic() - start, 3)}
    if isinstance(reply, NoReply):
        return {**asked, "outcome": "no answer in time" if reply.timed_out else "no connection or no HTTP"}
    return {**asked, **_described(resource, reply, names)}


def _described(resource: str, reply: Reply, names: set[str]) -> dict[str, Any]:
    """A reply in names, types and numbers.

    :param names: what names somebody; the claims of a token add to it.
    """
    described: dict[str, Any] = {
        "outcome": "reply",
        "status": reply.status,
        "headers": sorted(reply.headers),
        "bytes": len(reply.body),
    }
    try:
        content = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {**described, "body": "not JSON"}
    if not isinstance(content, dict):
        return {**described, "body": type(content).__name__}
    described["fields"] = {_plain(name, names): _type(value) for name, value in content.items()}
    if "error" in content:
        return {**described, "outcome": "error", "error": _plain(json.dumps(content["error"]), names)}
    token = content.get("access_token")
    if not isinstance(token, str):
        return described
    described["outcome"] = "token"
    claims = protocol.claims_of(token)
    names.update(value for name, value in claims.items() if isinstance(value, str) and name != "aud")
    audience = claims.get("aud")
    described["token_is_for"] = audience if isinstance(audience, str) and audiences.lookup(audience) else "not known"
    described["resource_is_echoed"] = content.get("resource") == resource
    described["token_type"] = content["token_type"] if content.get("token_type") == "Bearer" else "another"
    now = time()
    for name in sorted(_NUMBERS & content.keys()):
        value = str(content[name])
        if value.isascii() and value.isdigit() and len(value) < 12:
            # Relative to now, so that it tells lifetimes and not when somebody was at work.
            described[name] = int(value) if name == "expires_in" else round(int(value) - now)
    return described


def _type(value: object) -> str:
    names = {str: "string", bool: "boolean", int: "number", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _plain(text: str, names: set[str]) -> str:
    """Text of the endpoint's without anything that names somebody."""
    for name in sorted(names, key=len, reverse=True):
        if len(name) > _SHORTEST_NAME:
            text = text.replace(name, "<name>")
    text = _ADDRESS.sub("<address>", text)
    text = _URL.sub(lambda match: match[0] if audiences.lookup(match[0]) else "<url>", text)
    text = _GUID.sub(lambda match: match[0] if audiences.lookup(match[0]) else "<id>", text)
    return failures.quoted(text, 1000)
