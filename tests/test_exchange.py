"""The loopback exchange against peers that speak HTTP well, badly and not at all."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azure_cloudshell_credential._endpoint import exchange
from azure_cloudshell_credential._endpoint.environment import Endpoint
from azure_cloudshell_credential._endpoint.exchange import TOO_LATE
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
        (OK + b"Transfer-Encoding: chunked\r\n\r\n02 \r\n{}\r\n0 ; a\r\n\r\n", b"{}"),
        (OK + b"Content-Length: 2, 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", b""),
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
        # What could mean two things.
        (OK + b"Content-Length: 2, 3\r\n\r\n{}", NOT_HTTP),
        (OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", NOT_HTTP),
        (OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", NOT_HTTP),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", NOT_HTTP),
        (OK + b"Content-Length: \xb2\r\n\r\n{}", NOT_HTTP),
        (OK + b"Content-Length: +2\r\n\r\n{}", NOT_HTTP),
        (OK + b"Content-Length: \r\n\r\n{}", NOT_HTTP),
        (OK + b"Content-Length: 2,\r\n\r\n{}", NOT_HTTP),
        (OK + b"Content-Length : 2\r\n\r\n{}", NOT_HTTP),
        (OK + b"X: a\rContent-Length: 2\r\n\r\n{}", NOT_HTTP),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n", NOT_HTTP),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2;\x00\r\n{}\r\n0\r\n\r\n", NOT_HTTP),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n", NOT_HTTP),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n000000002\r\n{}\r\n0\r\n\r\n", NOT_HTTP),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + OK + b"\r\n", NOT_HTTP),
        (b"HTTP/1.1 200 O\x01K\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 200OK\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.2 200 OK\r\n\r\n", NOT_HTTP),
        (b"\r\n" + OK + b"\r\n", NOT_HTTP),
        (OK + b"Content-Length: 1048577\r\n\r\n", TOO_LARGE),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"x" * 70_000 + b"\r\n{}\r\n0\r\n\r\n", TOO_LARGE),
        (OK + b"Content-Length: 100000099999\r\n\r\n", TOO_LARGE),
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
        assert (outcome.reason, outcome.meaning) == (reason, "unreachable")


@pytest.mark.parametrize(
    "behaviour",
    [
        peer.hang(),
        peer.hang(OK),
        peer.hang(OK + b"X: a\x00b\r\n"),
        peer.hang(OK + b"Content-Length: 5\r\n\r\n{"),
        peer.drip(b"HTTP/1.1 200 OK\r\n"),
        peer.drip(OK + b"Content-Length: 500\r\n\r\n"),
        peer.drip(OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\n"),
        peer.drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0.0001),
    ],
    ids=[
        "silent",
        "headers begun",
        "headers wrong",
        "body begun",
        "drips head",
        "drips body",
        "drips a chunk",
        "continues for ever",
    ],
)
def test_the_deadline_is_for_everything_together(misbehaving: Start, behaviour: Behaviour) -> None:
    start = time.monotonic()
    outcome = ask(misbehaving(behaviour), 0.4)
    assert isinstance(outcome, NoReply)
    assert outcome is TOO_LATE or outcome.reason == NOT_HTTP
    assert time.monotonic() - start < 0.8


@pytest.mark.parametrize("head", [OK + b"\r\n", OK + b"X: ", OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"])
def test_a_flood_is_cut_off(misbehaving: Start, head: bytes) -> None:
    outcome = ask(misbehaving(peer.flood(head)))
    assert isinstance(outcome, NoReply)
    assert outcome is not TOO_LATE


def test_a_reset_is_told(misbehaving: Start) -> None:
    server = misbehaving(peer.reset())
    outcome = ask(server)
    assert isinstance(outcome, NoReply)
    assert outcome is not TOO_LATE


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = exchange.post(Endpoint(f"http://localhost:{port}/"), {}, b"", 1)
    assert isinstance(outcome, NoReply)
    assert outcome.reason.startswith(f"the connection to localhost:{port} failed (")


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
        assert outcome is TOO_LATE
        for filler in fillers:
            filler.close()


def test_localhost_is_not_looked_up(misbehaving: Start, mocker: Any) -> None:
    server = misbehaving(peer.reply(b"{}"))
    look_up = mocker.spy(socket, "getaddrinfo")
    assert isinstance(ask(server), Reply)
    assert not look_up.called


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_ipv6_is_tried_second() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(exchange.post, Endpoint(f"http://localhost:{port}/"), {}, b"", 5)
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(65536).startswith(b"POST / HTTP/1.1\r\nHost: localhost:")
                connection.sendall(OK + b"Content-Length: 2\r\n\r\n{}")
            reply = asked.result()
    assert isinstance(reply, Reply)
    assert reply.body == b"{}"


def test_where_both_addresses_fail_the_first_reason_is_told(mocker: Any) -> None:
    refused, missing = ConnectionRefusedError(), OSError(99, "Cannot assign requested address")
    mocker.patch.object(socket.socket, "connect", side_effect=[refused, missing])
    outcome = exchange.post(Endpoint("http://localhost:1/"), {}, b"", 1)
    assert isinstance(outcome, NoReply)
    assert outcome.reason == "the connection to localhost:1 failed (ConnectionRefusedError)"


def test_other_failures_to_connect_name_their_reason(mocker: Any) -> None:
    mocker.patch.object(socket.socket, "connect", side_effect=OSError(24, "Too many open files"))
    outcome = exchange.post(Endpoint("http://127.0.0.1:1/"), {}, b"", 1)
    assert isinstance(outcome, NoReply)
    assert outcome.reason == "the connection to 127.0.0.1:1 failed (Too many open files)"


def test_a_server_that_is_not_an_http_one_is_told_at_once(misbehaving: Start) -> None:
    outcome = ask(misbehaving(peer.hang(b"SSH-2.0-OpenSSH_9.2\r\n")), 20)
    assert isinstance(outcome, NoReply)
    assert outcome.reason == NOT_HTTP


def test_a_connection_that_is_kept_open_is_not_waited_for(misbehaving: Start) -> None:
    for end in (b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"):
        reply = ask(misbehaving(peer.hang(OK + end)), 20)
        assert isinstance(reply, Reply)
        assert reply.body == b"{}"


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


_PIECES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 100000099\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Retry-After: 1\r\n",
        b"\r\n",
        b"\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        json.dumps({"access_token": "x", "expires_in": 60}).encode(),
    ]
)


_RESPONSES = st.lists(_PIECES | st.binary(max_size=40), max_size=12).map(b"".join)

GOOD = (
    OK + b"Content-Type: application/json\r\nContent-Length: 5\r\n\r\nhello",
    OK + b"Content-Length: 5, 5\r\n\r\nhello",
    OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 Bad\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.0 200\r\n\r\nhello",
    b"HTTP/1.1 200 OK\nContent-Length:\t5 \n\nhello",
)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A good response with some bytes put in, replaced, taken out or cut off."""
    data = draw(st.sampled_from(GOOD))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        removed = draw(st.integers(0, 4))
        data = data[:at] + draw(_PIECES | st.binary(max_size=3)) + data[at + removed :]
    return data


def parse(data: bytes, *, is_complete: bool = True) -> tuple[Any, ...] | None:
    outcome = exchange.parse_response(data, is_complete=is_complete)
    if isinstance(outcome, Reply):
        return outcome.status, outcome.headers, outcome.body
    return None if outcome is None else (outcome.reason,)


@settings(max_examples=1000)
@given(_RESPONSES | _mutated())
def test_any_bytes_are_a_reply_or_a_reason(data: bytes) -> None:
    outcome = exchange.parse_response(data, is_complete=True)
    if isinstance(outcome, Reply):
        assert 200 <= outcome.status <= 999
        assert outcome.body in data or outcome.headers["transfer-encoding"].lower() == "chunked"
        assert not {"content-length", "transfer-encoding"} <= outcome.headers.keys()
    else:
        assert outcome is not None
        assert outcome.reason


@settings(max_examples=1000)
@given(_RESPONSES | _mutated() | st.sampled_from(GOOD), st.data())
def test_in_whatever_pieces_a_response_comes_it_means_the_same(data: bytes, chance: st.DataObject) -> None:
    at = chance.draw(st.integers(0, len(data)))
    early = parse(data[:at], is_complete=False)
    assert early in (None, parse(data))


@pytest.mark.parametrize("data", GOOD)
def test_a_good_response_is_complete_with_its_last_byte(data: bytes) -> None:
    whole = parse(data)
    assert whole is not None
    assert whole[0] in (200, 400)
    assert whole[2] == b"hello"
    for at in range(len(data)):
        early = parse(data[:at], is_complete=False)
        # The trailer fields of the chunked one are not waited for.
        assert (
            early is None or data[at - 3 : at] == b"0\r\n" or data[:at].endswith((b"X", b":", b" ", b"y", b"\r", b"\n"))
        )


@pytest.mark.parametrize(
    "body", [b"Content-Length: 1048576\r\n\r\n" + b"x" * 1048576, b"\r\n" + b"x" * 1048576], ids=["length", "close"]
)
def test_a_body_of_exactly_the_bound_is_read(body: bytes) -> None:
    whole = parse(OK + body)
    assert whole is not None
    assert len(whole[2]) == 1048576
    assert parse(OK + b"\r\n" + b"x" * 1048577, is_complete=False) == (TOO_LARGE,)


def test_chunks_that_are_mostly_framing_are_not_read_for_ever() -> None:
    chunks = OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;xxxxxxxx\r\nx\r\n" * 150_000
    assert parse(chunks, is_complete=False) == (TOO_LARGE,)
