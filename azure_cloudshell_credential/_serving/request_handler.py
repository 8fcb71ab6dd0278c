"""The reading of requests and writing of responses on one connection, by the standard library's handler.

Stricter than it: what could be read in two ways is refused. Imported with the first connection of a server, since
``http.server`` takes tens of milliseconds.
"""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol

from .messages import Request, Response, error_response

MAX_BODY = 64 * 1024
"""Bytes. A token request has less than one hundred."""

_NAME_BYTES = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


class Responder(Protocol):
    """The server, as its handler needs it."""

    def respond(self, request: Request) -> Response:
        """Respond to a request."""

    def wait(self, connection: socket.socket, seconds: float) -> bool:
        """Wait; False if the client goes away or the server stops meanwhile."""


class RequestHandler(BaseHTTPRequestHandler):
    """Reads requests strictly, hands them on, and writes the responses."""

    protocol_version = "HTTP/1.1"
    server_version = "azure-cloudshell"
    sys_version = ""
    # Head and body go out together: in two packets, the second would wait for the client's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def __init__(self, connection: socket.socket, server: Responder) -> None:
        self._server = server
        super().__init__(connection, ("127.0.0.1", 0), None)  # type: ignore[arg-type]

    def parse_request(self) -> bool:
        """Read the head.

        :return: whether it is one to respond to.
        """
        if not super().parse_request():
            return False
        problem = self._problem()
        if problem is not None:
            self._refuse(*problem)
        return problem is None

    def _problem(self) -> tuple[int, str] | None:
        if self.request_version not in ("HTTP/1.0", "HTTP/1.1"):
            return 505, "HTTP/1.0 or HTTP/1.1 is needed."
        names = [name.lower() for name in self.headers]
        if self.headers.defects or any(not name or set(name) - _NAME_BYTES for name in names):
            return 400, "A header is malformed."
        if any(names.count(name) > 1 for name in ("host", "content-length", "transfer-encoding")):
            return 400, "A header is repeated."
        if not self.path.startswith("/") or not self.path.isascii() or not self.path.isprintable():
            return 400, "The target is malformed."
        if "transfer-encoding" in names:
            return 411, "A Content-Length is needed."
        length = self.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit() and len(length) <= 12):
            return 400, "The Content-Length is malformed."
        if int(length) > MAX_BODY:
            return 413, f"The body exceeds {MAX_BODY} bytes."
        return None

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what the base class cannot read. Its message quotes the request, and is left out."""
        self._refuse(code, "The request cannot be read.")

    def _refuse(self, status: int, message: str) -> None:
        self.close_connection = True
        self._write(error_response(status, "bad_request", message))

    def __getattr__(self, name: str) -> Any:
        # Any method: the server judges it.
        if name.startswith("do_"):
            return self._respond
        raise AttributeError(name)

    def _respond(self) -> None:
        length = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        connection = self.connection
        request = Request(
            self.command, self.path, headers, body, lambda seconds: self._server.wait(connection, seconds)
        )
        response = self._server.respond(request)
        if response.drops:
            self.close_connection = True
            return
        self._write(response)

    def _write(self, response: Response) -> None:
        if not hasattr(self, "request_version"):
            self.request_version = "HTTP/1.1"
        if self.request_version == "HTTP/0.9":
            self.request_version = "HTTP/1.0"
        self.send_response_only(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Date", self.date_time_string())
        self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if getattr(self, "command", None) != "HEAD":
            self.wfile.write(response.body)
        self.wfile.flush()

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing: only the request handler knows what may be logged."""
