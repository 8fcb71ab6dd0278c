"""One question to the endpoint, one reply: HTTP/1.1 over a loopback socket, under one deadline.

What HTTP libraries do not give here is what this file is for: a deadline for the whole exchange, which holds even
against a peer that sends its headers byte by byte, and a bound on the reply. And it is light: ``http.client`` alone
would take longer to import than the whole ``token`` command takes to run. It asks the environment for nothing (no
proxy, no ``.netrc``, no CA bundle), follows no redirect, and keeps no connection. Standard library only.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from time import monotonic

from ._environment import Endpoint
from ._protocol import NoReply, Reply

MAX_HEAD = 64 * 1024
MAX_BODY = 1024 * 1024
"""Bytes. Real replies are below 10 kB."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\x00]*)")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_LENGTH = re.compile(r"[0-9]{1,12}")
_ADDED_HEADERS = ("host", "content-length", "connection")
_NOT_HTTP = NoReply("what answers there does not speak HTTP")
_CUT_SHORT = NoReply("it closed the connection before the whole reply had come")
TOO_LARGE = NoReply("its reply is far too large to be a token")
_TOO_LATE = NoReply("it did not answer in time", timed_out=True)


class _Stop(Exception):
    """Ends the exchange; carries what came of it."""

    def __init__(self, outcome: NoReply) -> None:
        super().__init__()
        self.outcome = outcome


def post(
    endpoint: Endpoint,
    headers: Mapping[str, str],
    body: bytes,
    seconds: float,
    connect_seconds: float | None = None,
) -> Reply | NoReply:
    """Send a POST request and read the reply.

    :param endpoint: where to.
    :param headers: the request's headers; ``Host``, ``Content-Length`` and ``Connection`` are added.
    :param body: the request's body.
    :param seconds: for everything together: connecting, sending and reading.
    :param connect_seconds: for connecting alone, when that is to be less.
    """
    lines = [f"POST {endpoint.target} HTTP/1.1", f"Host: {endpoint.authority}"]
    # One line each: a User-Agent from the environment must not be able to add headers or end them.
    lines += [" ".join(f"{name}: {headers[name]}".split()) for name in headers if name.lower() not in _ADDED_HEADERS]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    request = "\r\n".join(lines).encode("latin-1", "replace") + body
    deadline = monotonic() + seconds
    connect_deadline = deadline if connect_seconds is None else min(deadline, monotonic() + connect_seconds)
    try:
        with _connect(endpoint, connect_deadline) as connection:
            connection.settimeout(_left(deadline))
            connection.sendall(request)
            return _read(_Stream(connection, deadline))
    except _Stop as stop:
        return stop.outcome
    except TimeoutError:
        return _TOO_LATE
    except ConnectionRefusedError:
        return NoReply(f"nothing listens at {endpoint.authority}")
    except OSError as error:
        return NoReply(f"the connection to {endpoint.authority} failed ({error.strerror or type(error).__name__})")


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise _Stop(_TOO_LATE)
    return left


def _connect(endpoint: Endpoint, deadline: float) -> socket.socket:
    # Never through the resolver: a hosts file that sends "localhost" elsewhere must not get the request.
    addresses = ("127.0.0.1", "::1") if endpoint.host.lower() == "localhost" else (endpoint.host,)
    refused: OSError = ConnectionRefusedError()
    for address in addresses:
        try:
            return _open(address, endpoint.port, _left(deadline))
        except TimeoutError:
            raise
        except OSError as error:
            # The first reason is the one to tell: a machine without IPv6 fails ::1 in its own way.
            refused = error if address == addresses[0] else refused
    raise refused


def _open(address: str, port: int, seconds: float) -> socket.socket:
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        connection.settimeout(seconds)
        connection.connect((address, port))
    except BaseException:
        connection.close()
        raise
    return connection


class _Stream:
    """The bytes of a reply, read under the deadline."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._buffer = bytearray()
        self._ended = False

    def _more(self) -> bool:
        if not self._ended:
            self._connection.settimeout(_left(self._deadline))
            received = self._connection.recv(64 * 1024)
            self._buffer += received
            self._ended = not received
        return not self._ended

    def line(self, limit: int) -> bytes:
        """The next line, without its end."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > limit:
                raise _Stop(TOO_LARGE)
            if not self._more():
                raise _Stop(_CUT_SHORT)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line[:-1] if line.endswith(b"\r") else line

    def exactly(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        while len(self._buffer) < size:
            if not self._more():
                raise _Stop(_CUT_SHORT)
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def rest(self, limit: int) -> bytes:
        """Everything until the connection is closed."""
        while self._more():
            if len(self._buffer) > limit:
                raise _Stop(TOO_LARGE)
        return bytes(self._buffer)


def _read(stream: _Stream) -> Reply:
    while True:
        status, headers = _read_head(stream)
        if status >= 200:
            break
    if status in (204, 304):
        return Reply(status, headers, b"")
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked":
            raise _Stop(_NOT_HTTP)
        return Reply(status, headers, _read_chunks(stream))
    if "content-length" in headers:
        if not _LENGTH.fullmatch(headers["content-length"]):
            raise _Stop(_NOT_HTTP)
        length = int(headers["content-length"])
        if length > MAX_BODY:
            raise _Stop(TOO_LARGE)
        return Reply(status, headers, stream.exactly(length))
    return Reply(status, headers, stream.rest(MAX_BODY))


def _read_head(stream: _Stream) -> tuple[int, dict[str, str]]:
    left = MAX_HEAD
    line = stream.line(left)
    if not (match := _STATUS_LINE.fullmatch(line)):
        raise _Stop(_NOT_HTTP)
    status = int(match[1])
    headers: dict[str, str] = {}
    while line := stream.line(left):
        left -= len(line) + 2
        if left < 0:
            raise _Stop(TOO_LARGE)
        if not (match := _HEADER.fullmatch(line)):
            raise _Stop(_NOT_HTTP)
        name, value = match[1].decode("ascii").lower(), match[2].decode("latin-1").strip(" \t")
        if name == "content-length" and headers.get(name, value) != value:
            raise _Stop(_NOT_HTTP)
        headers[name] = value
    return status, headers


def _read_chunks(stream: _Stream) -> bytes:
    body = bytearray()
    while True:
        if not (match := _CHUNK_SIZE.fullmatch(stream.line(MAX_HEAD))):
            raise _Stop(_NOT_HTTP)
        size = int(match[1], 16)
        if len(body) + size > MAX_BODY:
            raise _Stop(TOO_LARGE)
        if size == 0:
            break
        body += stream.exactly(size)
        if stream.line(2):
            raise _Stop(_NOT_HTTP)
    left = MAX_HEAD
    while trailer := stream.line(left):
        left -= len(trailer) + 2
    return bytes(body)
