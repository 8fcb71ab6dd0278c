"""Requests and responses of this package's servers, errors in the endpoint's form, and which requests are refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from .._endpoint.environment import Endpoint

_FORWARDED = ("forwarded", "via", "x-real-ip")


class Request:
    """One request.

    :param path: without the query, and without a slash at its end, which some clients add (MSAL for Node).
    :param query: the query's fields; of a repeated one, the first.
    :param headers: with names in lower case.
    :param wait: waits so many seconds; False if the client has gone or the server stops meanwhile.
    """

    def __init__(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, *, wait: Callable[[float], bool]
    ) -> None:
        path, _, query = target.partition("?")
        self.method = method
        self.target = target
        self.path: str = path.removesuffix("/") or "/"
        self.query: dict[str, str] = parse_form(query)
        self.headers = headers
        self.body = body
        self.wait = wait

    def fields(self) -> dict[str, str]:
        """The fields of the query of a GET, or of a form in the body."""
        return self.query if self.method == "GET" else parse_form(self.body.decode("utf-8", "replace"))


def parse_form(text: str) -> dict[str, str]:
    """URL-encoded fields; of a repeated one, the first."""
    from urllib.parse import parse_qsl

    fields: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        fields.setdefault(name, value)
    return fields


class Response:
    """One response.

    :param body: JSON as text.
    :param headers: further headers.
    :param drops: close the connection instead of responding.
    :param closes: close the connection after the response.
    """

    def __init__(
        self,
        status: int,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        *,
        drops: bool = False,
        closes: bool = False,
    ) -> None:
        self.status = status
        self.body: bytes = body.encode("utf-8")
        self.headers: dict[str, str] = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
        self.drops = drops
        self.closes = closes


def compact(content: Any) -> str:
    """JSON without white space, as the endpoint writes it: Content-Length 940 of azure-powershell#18258 is of such."""
    return json.dumps(content, separators=(",", ":"))


def error_body(code: str, message: str) -> str:
    """An error in the form that the endpoint and Resource Manager share: compact JSON, nested."""
    return compact({"error": {"code": code, "message": message}})


def error_response(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as a response."""
    return Response(status, error_body(code, message), headers)


def refusal(request: Request, hosts: Collection[str] = ()) -> Response | None:
    """The response to what a browser, a rebound name or a proxy sends; None for a program that was led here.

    A page can make a browser send requests to loopback, but not without ``Origin`` or ``Sec-Fetch-Site`` when they are
    cross-site POSTs or scripts; and a DNS name that was rebound to loopback still stands in ``Host``.

    :param hosts: the other names that ``Host`` may have, in lower case.
    """
    host = request.headers.get("host", "")
    name, colon, port = host.lower().rpartition(":")
    if (name if colon and port.isdigit() else host.lower()) not in hosts and not _is_loopback(host):
        return error_response(403, "forbidden", "The Host header must name this server.")
    if "origin" in request.headers or request.headers.get("sec-fetch-site", "none") != "none":
        return error_response(403, "forbidden", "Requests from web pages are refused.")
    if any(name in _FORWARDED or name.startswith("x-forwarded-") for name in request.headers):
        return error_response(403, "forbidden", "Forwarded requests are refused.")
    return None


def _is_loopback(host: str) -> bool:
    try:
        # With a slash or a question mark in the host, the target is longer.
        return Endpoint(f"http://{host}/").target == "/"
    except ValueError:
        return False
