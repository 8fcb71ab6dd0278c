"""A small HTTP server on loopback, in background threads: the emulator, its stand-ins and the broker are served by it.

The standard library's request handler reads the requests, one thread for each connection; what is added here is what a
token server needs: it listens on loopback only, refuses what a browser or a rebound name sends, bounds what it reads,
and stops at once, even with connections open. Sockets are bound by ``start`` and the handler is imported
with the first connection, so that starting a server costs next to nothing.
"""

from __future__ import annotations

import errno
import json
import select
import selectors
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from ._environment import Endpoint

if TYPE_CHECKING:
    import ssl
    from http.server import BaseHTTPRequestHandler

MAX_BODY = 64 * 1024
"""Bytes. A token request has less than one hundred."""

_IDLE_SECONDS = 30.0
_BACKLOG = 256
_POLL_SECONDS = 0.05
_NAME_BYTES = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


class Request:
    """One request.

    :param path: without the query, as it was sent.
    :param query: the query's fields; of a repeated one, the first.
    :param headers: with names in lower case.
    :param wait: waits so many seconds; False if the client has gone or the server stops meanwhile.
    """

    def __init__(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, wait: Callable[[float], bool]
    ) -> None:
        path, _, query = target.partition("?")
        self.method = method
        self.target = target
        self.path = path
        self.query = parse_form(query)
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
    for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=100):
        fields.setdefault(name, value)
    return fields


class Response:
    """One response.

    :param body: JSON as text.
    :param headers: further headers.
    :param drops: close the connection instead of responding.
    """

    def __init__(
        self, status: int, body: str = "", headers: Mapping[str, str] | None = None, *, drops: bool = False
    ) -> None:
        self.status = status
        self.body = body.encode("utf-8")
        self.headers = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
        self.drops = drops


def compact(content: Any) -> str:
    """JSON without white space, as the endpoint writes it: Content-Length 940 of azure-powershell#18258 is of such."""
    return json.dumps(content, separators=(",", ":"))


def error_body(code: str, message: str) -> str:
    """An error in the form that the endpoint and Resource Manager share: compact JSON, nested."""
    return compact({"error": {"code": code, "message": message}})


def error_response(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as a response."""
    return Response(status, error_body(code, message), headers)


def refusal(request: Request) -> Response | None:
    """The response to what a browser, a rebound name or a proxy sends; None for a program on this machine.

    A page can make a browser send requests to loopback, but not without ``Origin`` or ``Sec-Fetch-Site`` when they are
    cross-site POSTs or scripts; and a DNS name that was rebound to loopback still stands in ``Host``.
    """
    if not _names_this_machine(request.headers.get("host", "")):
        return error_response(403, "forbidden", "The Host header must name this machine (localhost, 127.0.0.1, [::1]).")
    if "origin" in request.headers or request.headers.get("sec-fetch-site", "none") != "none":
        return error_response(403, "forbidden", "Requests from web pages are refused.")
    if "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return error_response(403, "forbidden", "Forwarded requests are refused.")
    return None


def _names_this_machine(host: str) -> bool:
    try:
        Endpoint(f"http://{host}/")
    except ValueError:
        return False
    return True


class PortInUseError(OSError):
    """The port is taken."""


class Server:
    """Serves until it is stopped.

    :param handle: responds to a request; called on a thread for each connection.
    :param port: the port on 127.0.0.1 and, where there is one, ::1; 0 takes a free one.
    :param ssl_context: serve HTTPS with it.
    """

    def __init__(
        self, handle: Callable[[Request], Response], port: int = 0, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._handle = handle
        self._ssl_context = ssl_context
        self._listeners: list[socket.socket] = []
        self._connections: set[socket.socket] = set()
        self._mutex = Lock()
        self._stopped = Event()
        self._thread: Thread | None = None
        self.port = port

    def start(self) -> None:
        """Start serving.

        :raises PortInUseError: if the port is taken.
        :raises OSError: if there can be no socket.
        """
        self.bind()
        self.serve()

    def bind(self) -> None:
        """Take the port. From now on connections are kept waiting until ``serve``.

        :raises PortInUseError: if the port is taken.
        :raises OSError: if there can be no socket.
        """
        self._listeners = [_listen("127.0.0.1", self.port)]
        self.port = self._listeners[0].getsockname()[1]
        # Some clients try ::1 first for "localhost"; those that get no answer there go on to 127.0.0.1.
        with suppress(OSError):
            self._listeners.append(_listen("::1", self.port))

    def serve(self) -> None:
        """Serve, in a thread."""
        self._stopped = Event()
        self._thread = Thread(target=self._accept, name="azure-cloudshell-server", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving. Connections that are still open are closed."""
        thread, self._thread = self._thread, None
        self._stopped.set()
        if thread is not None:
            thread.join()
        for listener in self._listeners:
            listener.close()
        with self._mutex:
            connections = list(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            for listener in self._listeners:
                selector.register(listener, selectors.EVENT_READ)
            while not self._stopped.is_set():
                for key, _ in selector.select(_POLL_SECONDS):
                    with suppress(OSError):
                        connection, _ = key.fileobj.accept()  # type: ignore[union-attr]
                        self._serve_in_a_thread(connection)

    def _serve_in_a_thread(self, connection: socket.socket) -> None:
        with self._mutex:
            self._connections.add(connection)
        try:
            Thread(target=self._serve, args=(connection,), name="azure-cloudshell-server", daemon=True).start()
        except RuntimeError:
            # No thread to be had: the client sees a closed connection, and the server goes on.
            self._forget(connection)

    def _serve(self, connection: socket.socket) -> None:
        wrapped = connection
        try:
            connection.settimeout(_IDLE_SECONDS)
            if self._ssl_context is not None:
                wrapped = self._ssl_context.wrap_socket(connection, server_side=True)
                with self._mutex:
                    self._connections.discard(connection)
                    self._connections.add(wrapped)
            handler_class()(wrapped, self)
        except (OSError, ValueError):
            # A peer that speaks no TLS, sends nothing in time or goes away.
            pass
        finally:
            self._forget(wrapped)

    def _forget(self, connection: socket.socket) -> None:
        with self._mutex:
            self._connections.discard(connection)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def respond(self, request: Request) -> Response:
        """Respond to a request, even if the handler fails."""
        try:
            return self._handle(request)
        except Exception as error:
            # The text of an error that nobody foresaw may hold anything.
            return error_response(500, "internal_error", f"The server failed: {type(error).__name__}.")

    def wait(self, connection: socket.socket, seconds: float) -> bool:
        """Wait; False if the client goes away or the server stops meanwhile."""
        deadline = monotonic() + seconds
        while (remaining := deadline - monotonic()) > 0:
            if self._stopped.wait(min(remaining, _POLL_SECONDS)):
                return False
            if _has_gone(connection):
                return False
        return True


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        if ":" in address:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(error.errno, f"port {port} is in use") from None
        raise
    except BaseException:
        listener.close()
        raise
    return listener


def _has_gone(connection: socket.socket) -> bool:
    import ssl

    if isinstance(connection, ssl.SSLSocket):
        return False
    try:
        # Readable without anything to read: the peer has closed it.
        return bool(select.select([connection], [], [], 0)[0]) and connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True


_HANDLER: type[BaseHTTPRequestHandler] | None = None


def handler_class() -> Any:
    """The request handler's class. Made with the first connection: importing ``http.server`` takes tens of ms."""
    global _HANDLER  # noqa: PLW0603 - a lazy import
    if _HANDLER is not None:
        return _HANDLER
    from http.server import BaseHTTPRequestHandler

    class Handler(BaseHTTPRequestHandler):
        """Reads requests strictly, hands them on, and writes the responses."""

        protocol_version = "HTTP/1.1"
        server_version = "azure-cloudshell"
        sys_version = ""
        # Head and body go out together: in two packets, the second would wait for the client's acknowledgement.
        wbufsize = -1
        disable_nagle_algorithm = True

        def __init__(self, connection: socket.socket, server: Server) -> None:
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

    _HANDLER = Handler
    return _HANDLER
