"""The reading of requests and writing of responses on one connection.

HTTP/1.1 as clients of a token endpoint speak it, and nothing that could be read in two ways: bare line feeds, folded or
repeated headers that frame a body, a length beside chunks. Not ``http.server``: it lets most of these pass, and its
import takes tens of milliseconds of a command's start.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from .messages import Response, error_response

MAX_BODY = 64 * 1024
"""Bytes. A token request has less than one hundred."""

_MAX_HEAD = 64 * 1024
"""Bytes of the request line and all headers: they are kept before it is known who asks."""

_MAX_HEADERS = 100
_CHUNK_LINE = 16
_LINGER_READS = 32

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) ([!-~]+) HTTP/(\d\.\d)" % _TOKEN)
_ABSOLUTE = re.compile(r"http://([^/?]*)/?(.*)", re.IGNORECASE)
_HEADER = re.compile(rb"(%b):([^\x00-\x08\x0a-\x1f\x7f]*)" % _TOKEN)
_LENGTH = re.compile(r"[0-9]{1,12}")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")
_FRAMING = ("host", "content-length", "transfer-encoding")


class Message(NamedTuple):
    """One request as it was sent. Header names are in lower case, the values of a repeated one joined by commas."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Refused(Exception):
    """What is sent is refused, and the connection ends.

    :param status: the status of the response.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def converse(
    connection: socket.socket, respond: Callable[[Message], Response], refused: Callable[[int, str], None]
) -> None:
    """Respond to requests until the client or a response ends the connection.

    :param refused: told of what was not even handed on.
    :raises OSError: if the connection breaks.
    """
    with connection.makefile("rb") as file:
        try:
            while _exchange(connection, file, respond):
                pass
        except Refused as refusal:
            refused(refusal.status, str(refusal))
            _write(connection, error_response(refusal.status, "bad_request", str(refusal)), ends=True)
            _linger(connection)


def _exchange(connection: socket.socket, file: BinaryIO, respond: Callable[[Message], Response]) -> bool:
    """Read one request and write its response.

    :return: whether the connection goes on.
    """
    line = _line(file, _MAX_HEAD)
    if line is None:
        return False
    method, target, is_newer = _request_line(line)
    headers = _headers(file, _MAX_HEAD - len(line) - 2)
    if headers is None:
        return False
    target = _origin_form(target, headers.get("host"))
    length = _framing(headers, is_newer=is_newer)
    if expected := headers.get("expect"):
        if expected.lower() != "100-continue":
            raise Refused(417, "Only 100-continue can be expected.")
        if is_newer:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = _chunks(file) if length is None else file.read(length)
    if body is None or (length is not None and len(body) < length):
        return False
    response = respond(Message(method, target, headers, body))
    if response.drops:
        return False
    options = headers.get("connection", "").lower()
    ends = response.closes or "close" in options or not (is_newer or "keep-alive" in options)
    _write(connection, response, ends=ends, has_body=method != "HEAD")
    return not ends


def _request_line(line: bytes) -> tuple[str, str, bool]:
    """Method, target, and whether it is HTTP/1.1 rather than 1.0."""
    if not (parts := _REQUEST_LINE.fullmatch(line)):
        raise Refused(400, "The request line is malformed.")
    if parts[3] not in (b"1.0", b"1.1"):
        raise Refused(505, "HTTP/1.0 or HTTP/1.1 is needed.")
    return parts[1].decode(), parts[2].decode(), parts[3] == b"1.1"


def _origin_form(target: str, host: str | None) -> str:
    """The path and query of a target.

    A client that has heard of a proxy may name the host there too (RFC 9112, 3.2.2). ``Host``, which is looked at
    later, then has to be the same.
    """
    if absolute := _ABSOLUTE.fullmatch(target):
        if host is None or absolute[1].lower() != host.lower():
            raise Refused(400, "The target and the Host header name different hosts.")
        return f"/{absolute[2]}"
    if not target.startswith("/"):
        raise Refused(400, "The target is malformed.")
    return target


def _line(file: BinaryIO, limit: int) -> bytes | None:
    """One line without its end; None if the client has gone before it."""
    line = file.readline(limit)
    if not line.endswith(b"\n"):
        if len(line) < limit:
            return None
        raise Refused(431, "The head, or a line of it, is too long.")
    if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
        raise Refused(400, "A line does not end with CR and LF.")
    return line[:-2]


def _headers(file: BinaryIO, left: int) -> dict[str, str] | None:
    """The headers; None if the client goes away in them.

    :param left: the bytes that they may have.
    """
    headers: dict[str, str] = {}
    for _ in range(_MAX_HEADERS + 1):
        line = _line(file, left)
        if not line:
            return None if line is None else headers
        left -= len(line) + 2
        if not (parts := _HEADER.fullmatch(line)):
            raise Refused(400, "A header is malformed.")
        name, value = parts[1].decode().lower(), parts[2].strip(b" \t").decode("latin-1")
        if name in headers:
            if name in _FRAMING:
                raise Refused(400, "A header is repeated.")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    raise Refused(431, "There are too many headers.")


def _framing(headers: Mapping[str, str], *, is_newer: bool) -> int | None:
    """How long the body is; None if it comes in chunks."""
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None or not is_newer:
            raise Refused(400, "Transfer-Encoding and Content-Length exclude each other, and HTTP/1.0 has only one.")
        if coding.lower() != "chunked":
            raise Refused(501, "The only Transfer-Encoding is chunked.")
        return None
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise Refused(400, "The Content-Length is malformed.")
    if int(length) > MAX_BODY:
        raise Refused(413, f"The body exceeds {MAX_BODY} bytes.")
    return int(length)


def _chunks(file: BinaryIO) -> bytes | None:
    """A body in chunks; None if the client goes away in it.

    Extensions and trailers are refused: no client sends any.
    """
    body = b""
    while True:
        line = _line(file, _CHUNK_LINE)
        if line is None:
            return None
        if not _CHUNK_SIZE.fullmatch(line):
            raise Refused(400, "The size of a chunk is malformed.")
        size = int(line, 16)
        if len(body) + size > MAX_BODY:
            raise Refused(413, f"The body exceeds {MAX_BODY} bytes.")
        chunk = file.read(size + 2)
        if len(chunk) < size + 2:
            return None
        if chunk[size:] != b"\r\n":
            raise Refused(400, "A chunk is not as long as it says, or is followed by a trailer.")
        if size == 0:
            return body
        body += chunk[:size]


def _write(connection: socket.socket, response: Response, *, ends: bool, has_body: bool = True) -> None:
    from email.utils import formatdate
    from http import HTTPStatus

    known = response.status in HTTPStatus._value2member_map_
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase if known else ''}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    lines += [f"Date: {formatdate(usegmt=True)}", f"Content-Length: {len(response.body)}"]
    if ends:
        lines.append("Connection: close")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
    # In one packet: the second of two would wait for the client's acknowledgement.
    connection.sendall(head + (response.body if has_body else b""))


def _linger(connection: socket.socket) -> None:
    """Read what the client is still sending: a close with that unread would destroy the response on its way."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(1.0)
        for _ in range(_LINGER_READS):
            if not connection.recv(65536):
                break
