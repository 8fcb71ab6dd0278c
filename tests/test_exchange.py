"""The loopback exchange against peers that speak HTTP well, badly and not at all."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azure_cloudshell_credential._endpoint import exchange
from azure_cloudshell_credential._endpoint.environment import Endpoint
from azure_cloudshell_credential._endpoint.protocol import HEADERS, NoReply, Reply

from . import misbehaving as peer
from .misbehaving import Behaviour, MisbehavingServer

Start = Callable[[Behaviour], MisbehavingServer]
OK = b"HTTP/1.1 200 OK\r\n"


def ask(server: MisbehavingServer, seconds: float = 2.0, **options: Any) -> Reply | NoReply:
    return exchange.post(Endpoint(server.endpoint), HEADERS, b"resource=r", seconds, **options)


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (OK + b"Content-Length: 2\r\n\r\n{}", b"{}"),
        (OK + b"Content-Length: 2\r\n\r\n{}{}", b"{}"),
        (OK + b"content-LENGTH:2\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (OK + b"\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200\r\n\r\nold", b"old"),
        (b"HTTP/1.1 200 OK\n\nbare line ends", b"bare line ends"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n", b"{}"),
        (OK + b"Transfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\nTrailer: x\r\n\r\n", b"{}"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (OK + b"Content-Length: 0\r\n\r\n", b""),
        (OK + b"Content-Length: 2\r\n\r\n{}" + OK + b"Content-Length: 2\r\n\r\n[]", b"{}"),
    ],
)
def test_replies_are_read(misbehaving: Start, data: bytes, body: bytes) -> None:
    reply = ask(misbehaving(peer.send(data)))
    assert isinstance(reply, Reply)
    assert reply.body == body


def test_headers_are_read(misbehaving: Start) -> None:
    data = b"HTTP/1.1 429 Slow\r\nRetry-After:  7 \t\r\nX-Empty:\r\nX-Odd: \xe9\r\nContent-Length: 0\r\n\r\n"
    reply = ask(misbehaving(peer.send(data)))
    assert isinstance(reply, Reply)
    assert reply.status == 429
    assert reply.headers == {"retry-after": "7", "x-empty": "", "x-odd": "é", "content-length": "0"}


CUT = "the connection was closed before the response was complete"
NOT_HTTP = "the server there is not an HTTP/1.x server"
TOO_LARGE = "the response exceeds 1 MiB"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", CUT),
        (b"HTTP/1.1 200", CUT),
        (OK, CUT),
        (OK + b"Content-Length: 3\r\n\r\n{}", CUT),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{", CUT),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", CUT),
        (b"garbage\r\n\r\n", NOT_HTTP),
        (b"HTTP/2 200\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 099 X\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 2000 X\r\n\r\n", NOT_HTTP),
        (OK + b"no colon\r\n\r\n", NOT_HTTP),
        (OK + b" folded: x\r\n\r\n", NOT_HTTP),
        (OK + b"X: a\x00b\r\n\r\n", NOT_HTTP),
        (OK + b"Content-Length: -1\r\n\r\n", NOT_HTTP),
        (OK + b"Content-Length: 1e9\r\n\r\n", NOT_HTTP),
        (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", NOT_HTTP),
        (OK + b"Transfer-Encoding: gzip\r\n\r\n", NOT_HTTP),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", NOT_HTTP),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n", NOT_HTTP),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n", NOT_HTTP),
        (OK + b"Content-Length: 99999999999\r\n\r\n", TOO_LARGE),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n", TOO_LARGE),
        (OK + b"X: " + b"x" * 70_000, TOO_LARGE),
        (OK + b"X: x\r\n" * 20_000, TOO_LARGE),
        (OK + b"X:" + b" " * 60_000 + b"\r\n\r\n", None),
    ],
)
def test_what_is_no_reply(misbehaving: Start, data: bytes, reason: str | None) -> None:
    start = time.monotonic()
    outcome = ask(misbehaving(peer.send(data)))
    assert time.monotonic() - start < 1
    if reason is None:
        assert isinstance(outcome, Reply)
    else:
        assert isinstance(outcome, NoReply)
        assert (outcome.reason, outcome.timed_out) == (reason, False)


@pytest.mark.parametrize(
    "behaviour",
    [
        peer.hang(),
        peer.hang(OK),
        peer.hang(OK + b"Content-Length: 5\r\n\r\n{"),
        peer.drip(b"HTTP/1.1 200 OK\r\n"),
        peer.drip(OK + b"Content-Length: 500\r\n\r\n"),
        peer.drip(OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\n"),
        peer.drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0.0001),
    ],
    ids=["silent", "headers begun", "body begun", "drips head", "drips body", "drips a chunk", "continues for ever"],
)
def test_the_deadline_is_for_everything_together(misbehaving: Start, behaviour: Behaviour) -> None:
    start = time.monotonic()
    outcome = ask(misbehaving(behaviour), 0.4)
    assert isinstance(outcome, NoReply)
    assert outcome.timed_out or outcome.reason == NOT_HTTP
    assert time.monotonic() - start < 0.8


@pytest.mark.parametrize("head", [OK + b"\r\n", OK + b"X: ", OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"])
def test_a_flood_is_cut_off(misbehaving: Start, head: bytes) -> None:
    outcome = ask(misbehaving(peer.flood(head)))
    assert isinstance(outcome, NoReply)
    assert not outcome.timed_out


def test_a_reset_is_told(misbehaving: Start) -> None:
    server = misbehaving(peer.reset())
    outcome = ask(server)
    assert isinstance(outcome, NoReply)
    assert not outcome.timed_out


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = exchange.post(Endpoint(f"http://localhost:{port}/"), {}, b"", 1)
    assert isinstance(outcome, NoReply)
    assert outcome.reason == f"connection refused by localhost:{port}"


def test_a_full_backlog_does_not_outlast_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        start = time.monotonic()
        outcome = exchange.post(Endpoint(f"http://127.0.0.1:{port}/"), {}, b"", 5, 0.3)
        assert time.monotonic() - start < 2
        assert isinstance(outcome, NoReply)
        assert outcome.timed_out
        for filler in fillers:
            filler.close()


def test_localhost_is_not_looked_up(misbehaving: Start, mocker: Any) -> None:
    server = misbehaving(peer.reply(b"{}"))
    look_up = mocker.spy(socket, "getaddrinfo")
    assert isinstance(ask(server), Reply)
    assert not look_up.called


def test_ipv6_is_tried_second(mocker: Any) -> None:
    tried: list[str] = []

    def refuse(address: str, port: int, seconds: float) -> None:
        tried.append(address)
        raise ConnectionRefusedError if address == "127.0.0.1" else OSError(99, "Cannot assign requested address")

    mocker.patch.object(exchange, "_open", refuse)
    outcome = exchange.post(Endpoint("http://localhost:1/"), {}, b"", 1)
    assert tried == ["127.0.0.1", "::1"]
    assert isinstance(outcome, NoReply)
    assert outcome.reason == "connection refused by localhost:1"


def test_other_failures_to_connect_name_their_reason(mocker: Any) -> None:
    mocker.patch.object(exchange, "_open", side_effect=OSError(24, "Too many open files"))
    outcome = exchange.post(Endpoint("http://127.0.0.1:1/"), {}, b"", 1)
    assert isinstance(outcome, NoReply)
    assert "Too many open files" in outcome.reason


def test_the_request_has_one_of_each_header(misbehaving: Start) -> None:
    server = misbehaving(peer.reply(b"{}"))
    exchange.post(
        Endpoint(server.endpoint),
        {"Host": "evil", "Content-Length": "7", "X": "ü", "User-Agent": "a\r\nHost: b\r\n\r\n"},
        b"ab",
        2,
    )
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /oauth2/token HTTP/1.1"
    assert head.lower().count(b"\nhost:") == head.lower().count(b"\ncontent-length:") == 1
    assert b"evil" not in head
    assert body == b"ab"


class Peer:
    """A socket that has already received everything."""

    def __init__(self, data: bytes, piece: int) -> None:
        self._data, self._piece = data, piece

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def recv(self, size: int) -> bytes:
        taken, self._data = self._data[: self._piece], self._data[self._piece :]
        return taken


_PIECES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 99999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Retry-After: 1\r\n",
        b"\r\n",
        b"\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        json.dumps({"access_token": "x", "expires_in": 60}).encode(),
    ]
)


@settings(max_examples=400)
@given(st.lists(_PIECES | st.binary(max_size=40), max_size=12).map(b"".join), st.integers(1, 50))
def test_any_bytes_are_a_reply_or_a_reason(data: bytes, piece: int) -> None:
    stream = exchange._Stream(Peer(data, piece), time.monotonic() + 60)  # type: ignore[arg-type]
    try:
        reply = exchange._read(stream)
    except exchange._Abort as abort:
        assert abort.outcome.reason
    else:
        assert 200 <= reply.status <= 999
        assert len(reply.body) <= len(data)
