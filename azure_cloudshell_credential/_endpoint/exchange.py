"""One request to the endpoint, one reply: HTTP/1.1 over a loopback socket, under one deadline.

What HTTP libraries do not give here is what this file is for: a deadline for the whole exchange, which holds even
against a peer that sends its headers byte by byte, and a bound on the reply. And it is light: importing ``http.client``
would add more than half to the time that the ``token`` command takes. It asks the environment for nothing (no
proxy, no ``.netrc``, no CA bundle), follows no redirect, and keeps no connection. Standard library only.

The replies it accepts are a subset of those that h11 accepts, and mean the same (``tests/test_exchange_oracle.py``).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from time import monotonic

from .environment import Endpoint
from .protocol import NoReply, Reply

MAX_HEAD = 64 * 1024
MAX_BODY = 1024 * 1024
"""Bytes. Real replies are below 10 kB."""

# The bytes that a text, a field's name, a chunk's size and a length may have (RFC 9110, 5.5 and 5.6.2).
_TEXT = bytes((9, *range(0x20, 0x7F), *range(0x80, 0x100)))
_NAME = b"!#$%&'*+.^_`|~-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_HEX = b"0123456789ABCDEFabcdef"
_DIGITS = b"0123456789"
_VERSIONS = (b"HTTP/1.0 ", b"HTTP/1.1 ")
_ADDED_HEADERS = ("host", "content-length", "connection")
_SWITCHING_PROTOCOLS = 101
_NOT_HTTP = NoReply("the server there is not an HTTP/1.x server")
_CUT_SHORT = NoReply("the connection was closed before the response was complete")
TOO_LARGE = NoReply("the response exceeds 1 MiB")
_TOO_LATE = NoReply("it did not answer in time", timed_out=True)


def _has_only(allowed: bytes, data: bytes) -> bool:
    """Whether there are no other bytes in the data."""
    # Regular expressions would have to be compiled in each process.
    return not data.translate(None, allowed)


class _Abort(Exception):
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
    request = _request(endpoint, headers, body)
    deadline = monotonic() + seconds
    connect_deadline = deadline if connect_seconds is None else min(deadline, monotonic() + connect_seconds)
    try:
        with _connect(endpoint, connect_deadline) as connection:
            connection.settimeout(_remaining(deadline))
            connection.sendall(request)
            return _read(_Stream(connection, deadline))
    except _Abort as abort:
        return abort.outcome
    except TimeoutError:
        return _TOO_LATE
    except ConnectionRefusedError:
        return NoReply(f"connection refused by {endpoint.authority}")
    except OSError as error:
        return NoReply(f"the connection to {endpoint.authority} failed ({error.strerror or type(error).__name__})")


def _request(endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"POST {endpoint.target} HTTP/1.1", f"Host: {endpoint.authority}"]
    for name, value in headers.items():
        if name.lower() not in _ADDED_HEADERS:
            # One line each: a User-Agent from the environment must not be able to add headers or end them.
            lines.append(" ".join(f"{name}: {value}".split()))
    lines.append(f"Content-Length: {len(body)}")
    lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


def _remaining(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise _Abort(_TOO_LATE)
    return left


def _connect(endpoint: Endpoint, deadline: float) -> socket.socket:
    # Never through the resolver: a hosts file that sends "localhost" elsewhere must not get the request.
    addresses = ("127.0.0.1", "::1") if endpoint.host.lower() == "localhost" else (endpoint.host,)
    refused: OSError = ConnectionRefusedError()
    for address in addresses:
        try:
            return _open(address, endpoint.port, _remaining(deadline))
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
            self._connection.settimeout(_remaining(self._deadline))
            received = self._connection.recv(64 * 1024)
            self._buffer += received
            self._ended = not received
        return not self._ended

    def line(self, limit: int, *, needs_cr: bool = False) -> bytes:
        """The next line, without its end: CR LF, or in a head also LF alone (RFC 9112, 2.2)."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > limit:
                raise _Abort(TOO_LARGE)
            if not self._more():
                raise _Abort(_CUT_SHORT)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        if line.endswith(b"\r"):
            return line[:-1]
        if needs_cr:
            raise _Abort(_NOT_HTTP)
        return line

    def exactly(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        while len(self._buffer) < size:
            if not self._more():
                raise _Abort(_CUT_SHORT)
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def until_eof(self, limit: int) -> bytes:
        """Everything until the connection is closed."""
        while self._more():
            if len(self._buffer) > limit:
                raise _Abort(TOO_LARGE)
        return bytes(self._buffer)


def _read(stream: _Stream) -> Reply:
    while True:
        status, headers = _read_head(stream)
        is_chunked, length = _framing(headers)
        if status == _SWITCHING_PROTOCOLS:
            raise _Abort(_NOT_HTTP)
        if status >= 200:
            break
    if status in (204, 304):
        return Reply(status, headers, b"")
    if is_chunked:
        return Reply(status, headers, _read_chunks(stream))
    if length is None:
        return Reply(status, headers, stream.until_eof(MAX_BODY))
    if length > MAX_BODY:
        raise _Abort(TOO_LARGE)
    return Reply(status, headers, stream.exactly(length))


def _read_head(stream: _Stream) -> tuple[int, dict[str, str]]:
    line = stream.line(MAX_HEAD)
    status, reason = line[9:12], line[12:]
    is_status = len(status) == 3 and _has_only(_DIGITS, status) and not status.startswith(b"0")
    if line[:9] not in _VERSIONS or not is_status or reason[:1] not in (b"", b" ") or not _has_only(_TEXT, reason):
        raise _Abort(_NOT_HTTP)
    return int(status), _read_fields(stream)


def _read_fields(stream: _Stream) -> dict[str, str]:
    """The header or trailer fields, up to the empty line that ends them."""
    left = MAX_HEAD
    fields: dict[str, str] = {}
    while line := stream.line(left):
        left -= len(line) + 2
        if left < 0:
            raise _Abort(TOO_LARGE)
        raw_name, colon, raw_value = line.partition(b":")
        if not colon or not raw_name or not _has_only(_NAME, raw_name) or not _has_only(_TEXT, raw_value):
            raise _Abort(_NOT_HTTP)
        name, value = raw_name.decode("ascii").lower(), raw_value.decode("latin-1").strip(" \t")
        # Repeated, a field means the list of its values (RFC 9110, 5.3).
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _framing(headers: dict[str, str]) -> tuple[bool, int | None]:
    """Whether the body comes in chunks, and else its length, None if it ends with the connection."""
    coding = headers.get("transfer-encoding")
    if coding is not None and coding.lower() != "chunked":
        raise _Abort(_NOT_HTTP)
    value = headers.get("content-length")
    if value is None:
        return coding is not None, None
    # The same length may be repeated (RFC 9110, 8.6).
    lengths = {length.strip(" \t") for length in value.split(",")}
    length = lengths.pop()
    if lengths or not 0 < len(length) <= 12 or not _has_only(_DIGITS, length.encode("latin-1")):
        raise _Abort(_NOT_HTTP)
    return coding is not None, int(length)


def _read_chunks(stream: _Stream) -> bytes:
    body = bytearray()
    while True:
        digits, semicolon, extension = stream.line(MAX_HEAD, needs_cr=True).partition(b";")
        if not semicolon:
            digits = digits.rstrip(b" \t")
        if not 0 < len(digits) <= 8 or not _has_only(_HEX, digits) or not _has_only(_TEXT, extension):
            raise _Abort(_NOT_HTTP)
        size = int(digits, 16)
        if len(body) + size > MAX_BODY:
            raise _Abort(TOO_LARGE)
        if size == 0:
            break
        body += stream.exactly(size)
        if stream.exactly(2) != b"\r\n":
            raise _Abort(_NOT_HTTP)
    _framing(_read_fields(stream))
    return bytes(body)
