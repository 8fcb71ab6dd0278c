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
_MAX_CHUNKED = 2 * MAX_BODY
"""Bytes of a reply with the sizes of its chunks."""

TOO_LARGE = NoReply("the response exceeds 1 MiB")
_NOT_HTTP = NoReply("the server there is not an HTTP/1.x server")
_CUT_SHORT = NoReply("the connection was closed before the response was complete")
TOO_LATE = NoReply("it did not answer in time", "no_answer")

# The bytes that RFC 9110 allows in a text and in a name (5.5 and 5.6.2): no control bytes.
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
_NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_STATUS_LINE = rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: " + _TEXT + rb")?\r?\n"
_HEAD = re.compile(_STATUS_LINE + rb"((?:" + _NAME + rb":" + _TEXT + rb"\r?\n)*)\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;" + _TEXT + rb")?\r\n")
# The same length may be repeated (RFC 9110, 8.6).
_LENGTH = re.compile(r"([0-9]{1,12})(?:[ \t]*,[ \t]*\1)*")


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
    start = time.monotonic()
    deadline = start + seconds
    try:
        with _connect(endpoint, deadline if connect_seconds is None else start + connect_seconds) as connection:
            connection.settimeout(_remaining(deadline))
            connection.sendall(_request(endpoint, headers, body))
            return _receive(connection, deadline)
    except TimeoutError:
        return TOO_LATE
    except OSError as error:
        reason = f"the connection to {endpoint.authority} failed ({error.strerror or type(error).__name__})"
        return NoReply(reason, "refused" if isinstance(error, ConnectionRefusedError) else "unreachable")


def _request(endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"POST {endpoint.target} HTTP/1.1", f"Host: {endpoint.authority}"]
    for name, value in headers.items():
        if name.lower() not in ("host", "content-length", "connection"):
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
    errors: list[OSError] = []
    for address in addresses:
        connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            connection.settimeout(_remaining(deadline))
            connection.connect((address, endpoint.port))
            return connection
        except OSError as error:
            connection.close()
            errors.append(error)
    # A machine without IPv6 fails ::1 in its own way: the first error is the one to tell.
    raise errors[0]


def _receive(connection: socket.socket, deadline: float) -> Reply | NoReply:
    data = b""
    outcome = None
    while outcome is None:
        connection.settimeout(_remaining(deadline))
        received = connection.recv(64 * 1024)
        data += received
        outcome = parse_response(data, is_complete=not received)
    return outcome


def parse_response(data: bytes, *, is_complete: bool) -> Reply | NoReply | None:
    """Read an HTTP/1.x response. What follows it is ignored: no connection is used twice.

    :param data: what has been received so far.
    :param is_complete: whether the peer has closed the connection.
    :return: the reply, why there is none, or None if more bytes are needed.
    """
    start = 0
    # 1xx is followed by the final response, except where it ends HTTP.
    while (head := _HEAD.match(data, start, MAX_HEAD)) and head[2].startswith(b"1") and head[2] != b"101":
        start = head.end()
    outcome: Reply | NoReply | None
    if head is None:
        outcome = _unfinished_head(data, start)
    elif head[2] == b"101":
        outcome = _NOT_HTTP
    else:
        fields = _read_fields(head[3])
        body = b"" if head[2] in (b"204", b"304") else _read_body(data, head, fields, is_complete=is_complete)
        outcome = Reply(int(head[2]), fields, body) if isinstance(body, bytes) else body
    return _CUT_SHORT if outcome is None and is_complete else outcome


def _unfinished_head(data: bytes, start: int) -> NoReply | None:
    if not b"HTTP/1.".startswith(data[start : start + 7]) or _HEAD_END.search(data, start, MAX_HEAD):
        return _NOT_HTTP
    return TOO_LARGE if len(data) >= MAX_HEAD else None


def _read_fields(lines: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines.decode("latin-1").split("\n")[:-1]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t\r")
        # Repeated, a field means the list of its values (RFC 9110, 5.3).
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _read_body(
    data: bytes, head: re.Match[bytes], fields: Mapping[str, str], *, is_complete: bool
) -> bytes | NoReply | None:
    start = head.end()
    coding, stated = fields.get("transfer-encoding"), fields.get("content-length")
    if coding is not None:
        is_clear = coding.lower() == "chunked" and stated is None and head[1] == b"1"
        return _read_chunks(data, start) if is_clear else _NOT_HTTP
    if stated is None:
        # It ends with the connection.
        end = len(data) if is_complete else len(data) + 1
    elif length := _LENGTH.fullmatch(stated):
        end = start + int(length[1])
    else:
        return _NOT_HTTP
    if end > start + MAX_BODY:
        return TOO_LARGE
    return data[start:end] if len(data) >= end else None


def _read_chunks(data: bytes, start: int) -> bytes | NoReply | None:
    body = bytearray()
    while line := _CHUNK_SIZE.match(data, start, start + MAX_HEAD):
        size = int(line[1], 16)
        end = line.end() + size
        if len(body) + size > MAX_BODY or end > _MAX_CHUNKED:
            return TOO_LARGE
        if size == 0:
            # What may follow are trailer fields, which nobody reads.
            return bytes(body)
        if not b"\r\n".startswith(data[end : end + 2]):
            return _NOT_HTTP
        body += data[line.end() : end]
        start = end + 2
    if b"\r\n" in data[start : start + MAX_HEAD]:
        return _NOT_HTTP
    return TOO_LARGE if len(data) >= start + MAX_HEAD else None
