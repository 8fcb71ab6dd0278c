"""One request to the endpoint, one reply: HTTP/1.1 over a loopback socket, under one deadline.

What HTTP libraries do not give here is what this file is for: a deadline for the whole exchange, which holds even
against a peer that sends its headers byte by byte, and a bound on the reply. And it is light: importing ``http.client``
would add more than half to the time that the ``token`` command takes. It asks the environment for nothing (no
proxy, no ``.netrc``, no CA bundle), follows no redirect, and keeps no connection. Standard library only.

``parse_response`` is the reader, a function of the bytes received so far. It refuses what could mean two things (two
lengths, a length and chunks, a size that is none) and what no HTTP server sends, and is tolerant otherwise.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping

from .environment import Endpoint
from .protocol import NoReply, Reply

MAX_HEAD = 64 * 1024
MAX_BODY = 1024 * 1024
"""Bytes. Real replies are below 10 kB."""

TOO_LARGE = NoReply("the response exceeds 1 MiB")
_NOT_HTTP = NoReply("the server there is not an HTTP/1.x server")
_CUT_SHORT = NoReply("the connection was closed before the response was complete")
_TOO_LATE = NoReply("it did not answer in time", timed_out=True)

_ADDED_HEADERS = ("host", "content-length", "connection")

# A text and a name have the bytes that RFC 9110 allows (5.5 and 5.6.2): no control bytes.
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: " + _TEXT + rb")?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):(" + _TEXT + rb")")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;" + _TEXT + rb"|[ \t]*)")
_LENGTH = re.compile(r"[0-9]{1,12}")


def post(
    endpoint: Endpoint, headers: Mapping[str, str], body: bytes, seconds: float, connect_seconds: float | None = None
) -> Reply | NoReply:
    """Send a POST request and read the reply.

    :param endpoint: where to.
    :param headers: the request's headers; ``Host``, ``Content-Length`` and ``Connection`` are added.
    :param body: the request's body.
    :param seconds: for everything together: connecting, sending and reading.
    :param connect_seconds: an upper bound for connecting alone.
    """
    deadline = time.monotonic() + seconds
    connect_deadline = deadline if connect_seconds is None else min(deadline, time.monotonic() + connect_seconds)
    try:
        with _connect(endpoint, connect_deadline) as connection:
            connection.settimeout(_remaining(deadline))
            connection.sendall(_request(endpoint, headers, body))
            return _receive(connection, deadline)
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
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace") + body


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _connect(endpoint: Endpoint, deadline: float) -> socket.socket:
    # Never through the resolver: a hosts file that sends "localhost" elsewhere must not get the request.
    addresses = ("127.0.0.1", "::1") if endpoint.host.lower() == "localhost" else (endpoint.host,)
    reasons: list[OSError] = []
    for address in addresses:
        connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            connection.settimeout(_remaining(deadline))
            connection.connect((address, endpoint.port))
            return connection
        except OSError as error:
            connection.close()
            if isinstance(error, TimeoutError):
                raise
            reasons.append(error)
    # The first reason is the one to tell: a machine without IPv6 fails ::1 in its own way.
    raise reasons[0]


def _receive(connection: socket.socket, deadline: float) -> Reply | NoReply:
    data = b""
    while True:
        connection.settimeout(_remaining(deadline))
        received = connection.recv(64 * 1024)
        start = time.thread_time()
        data += received
        outcome = parse_response(data, is_complete=not received)
        if outcome is not None:
            return outcome
        # Everything is read again each time: a peer that drips a long reply must not keep a processor busy.
        time.sleep(min(4 * (time.thread_time() - start), _remaining(deadline)))


def parse_response(data: bytes, *, is_complete: bool) -> Reply | NoReply | None:
    """Read an HTTP/1.x response. What follows it is ignored: no connection is used twice.

    :param data: what has been received so far.
    :param is_complete: whether the peer has closed the connection.
    :return: the reply, why there is none, or None if more bytes are needed.
    """
    outcome = _parse(data, is_complete=is_complete)
    return _CUT_SHORT if outcome is None and is_complete else outcome


def _parse(data: bytes, *, is_complete: bool) -> Reply | NoReply | None:
    start = 0
    while True:
        if not b"HTTP/1.".startswith(data[start : start + 7]):
            return _NOT_HTTP
        end = _HEAD_END.search(data, start, MAX_HEAD)
        if end is None:
            return TOO_LARGE if len(data) >= MAX_HEAD else None
        lines = data[start : end.start()].replace(b"\r\n", b"\n").split(b"\n")
        status_line = _STATUS_LINE.fullmatch(lines[0])
        fields = _read_fields(lines[1:])
        if status_line is None or fields is None:
            return _NOT_HTTP
        start = end.end()
        status = int(status_line[2])
        # 1xx is followed by the final response, except where it ends HTTP.
        if status >= 200 or status == 101:
            break
    if status == 101:
        return _NOT_HTTP
    is_http_1_0 = status_line[1] == b"0"
    body = b"" if status in (204, 304) else _read_body(data, start, fields, is_complete, is_http_1_0)
    return Reply(status, fields, body) if isinstance(body, bytes) else body


def _read_fields(lines: list[bytes]) -> dict[str, str] | None:
    fields: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return None
        name, value = field[1].decode("ascii").lower(), field[2].decode("latin-1").strip(" \t")
        # Repeated, a field means the list of its values (RFC 9110, 5.3).
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _read_body(
    data: bytes, start: int, fields: Mapping[str, str], is_complete: bool, is_http_1_0: bool
) -> bytes | NoReply | None:
    coding, stated = fields.get("transfer-encoding"), fields.get("content-length")
    if coding is not None:
        is_clear = coding.lower() == "chunked" and stated is None and not is_http_1_0
        return _read_chunks(data, start) if is_clear else _NOT_HTTP
    if stated is None:
        # It ends with the connection.
        if len(data) > start + MAX_BODY:
            return TOO_LARGE
        return data[start:] if is_complete else None
    # The same length may be repeated (RFC 9110, 8.6).
    lengths = {length.strip(" \t") for length in stated.split(",")}
    length = lengths.pop()
    if lengths or not _LENGTH.fullmatch(length):
        return _NOT_HTTP
    if int(length) > MAX_BODY:
        return TOO_LARGE
    end = start + int(length)
    return data[start:end] if len(data) >= end else None


def _read_chunks(data: bytes, start: int) -> bytes | NoReply | None:
    body = bytearray()
    limit = start + 2 * MAX_BODY
    while start < limit:
        end = data.find(b"\r\n", start, start + MAX_HEAD)
        if end < 0:
            return TOO_LARGE if len(data) >= start + MAX_HEAD else None
        line = _CHUNK_SIZE.fullmatch(data, start, end)
        if line is None:
            return _NOT_HTTP
        size = int(line[1], 16)
        if len(body) + size > MAX_BODY:
            return TOO_LARGE
        if size == 0:
            # What may follow are trailer fields, which nobody reads.
            return bytes(body)
        start = end + 2 + size
        if not b"\r\n".startswith(data[start : start + 2]):
            return _NOT_HTTP
        body += data[end + 2 : start]
        start += 2
    return TOO_LARGE
