"""h11 as an oracle for the exchange: over mutated replies, we accept nothing that h11 refuses and mean the same.

``make faults`` runs many more of them than the test suite: ``python -m tests.test_exchange_oracle 600000``.
"""

from __future__ import annotations

import random
import sys
import time

import h11
import pytest

from azure_cloudshell_credential._endpoint import exchange

from .test_exchange import Peer

SEEDS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 400 Bad\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.0 200 OK\r\n\r\nhello",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 304 Not Modified\r\n\r\n",
    b"HTTP/1.1 200\r\nX-Odd: \xe9\r\nContent-Length:\t5 \r\n\r\nhello",
)
PIECES = (
    *(bytes([value]) for value in (0, 9, 10, 11, 12, 13, 32, 34, 44, 45, 47, 48, 53, 58, 59, 127, 128, 160, 255)),
    b"\r\n",
    b"\r\n\r\n",
    b"\r\nContent-Length: 5",
    b"\r\nContent-Length: 6",
    b"\r\nTransfer-Encoding: chunked",
    b"\r\nTransfer-Encoding: identity",
    b"\r\n folded",
    b"chunked, ",
    b", 5",
    b"+",
    b"0x",
    b"_",
    b"HTTP/1.1 200 OK\r\n",
)

# Accepted although h11 refuses, each for its reason.
_EXCEPTIONS: tuple[bytes, ...] = ()

Meaning = tuple[int, bytes, str]


def mutate(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data) + 1)
        what = chance.random()
        if what < 0.4:
            data = data[:at] + chance.choice(PIECES) + data[at:]
        elif what < 0.7:
            data = data[:at] + chance.choice(PIECES) + data[at + 1 :]
        elif what < 0.9:
            data = data[:at] + data[at + chance.randint(1, 4) :]
        else:
            data = data[:at]
    return data


def ours(data: bytes) -> Meaning | None:
    stream = exchange._Stream(Peer(data, 4096), time.monotonic() + 60)  # type: ignore[arg-type]
    try:
        reply = exchange._read(stream)
    except exchange._Abort:
        return None
    return reply.status, reply.body, reply.headers.get("retry-after", "")


def h11s(data: bytes) -> Meaning | None:
    connection = h11.Connection(h11.CLIENT)
    head = h11.Request(method="POST", target="/", headers=[("Host", "localhost"), ("Connection", "close")])
    connection.send(head)
    connection.send(h11.EndOfMessage())
    status, body, retry_after = 0, b"", []
    try:
        connection.receive_data(data)
        is_ended = False
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if is_ended:
                    return None
                connection.receive_data(b"")
                is_ended = True
            elif isinstance(event, h11.Response):
                status = event.status_code
                retry_after = [value.decode("latin-1") for name, value in event.headers if name == b"retry-after"]
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, body, ", ".join(retry_after)
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return None
    except h11.RemoteProtocolError:
        return None


def difference(data: bytes) -> str | None:
    """What is wrong with our reading of a reply, None if nothing is."""
    mine = ours(data)
    if mine is None or data in _EXCEPTIONS:
        return None
    theirs = h11s(data)
    if theirs is None:
        return f"h11 refuses {data!r}, which means {mine} to us"
    return None if mine == theirs else f"{data!r} means {mine} to us and {theirs} to h11"


def run(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    found = (difference(mutate(chance.choice(SEEDS), chance)) for _ in range(count))
    return [text for text in found if text is not None]


@pytest.mark.parametrize("data", SEEDS)
def test_well_formed_replies_mean_the_same(data: bytes) -> None:
    assert difference(data) is None


@pytest.mark.parametrize("seed", range(4))
def test_mutated_replies_mean_the_same_or_are_refused(seed: int) -> None:
    assert run(5000, seed) == []


@pytest.mark.parametrize(
    "data",
    [SEEDS[4], SEEDS[8], b"HTTP/1.1 200 O\x01K\r\nContent-Length: 5\r\n\r\nhello"],
    ids=["repeated Transfer-Encoding", "101", "a control byte in the reason"],
)
def test_what_h11_refuses_is_refused(data: bytes) -> None:
    assert ours(data) is None


def test_a_repeated_length_is_accepted() -> None:
    assert ours(SEEDS[2]) == (200, b"hello", "")
    assert ours(b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!") is None


if __name__ == "__main__":
    differences = run(int(sys.argv[1]), int(time.time()))
    print("\n".join(differences[:20]) or "no difference")
    sys.exit(1 if differences else 0)
