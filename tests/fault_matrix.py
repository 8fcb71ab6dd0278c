"""Every way an HTTP peer on loopback can misbehave, as data; crossed with each credential, alone and in a chain.

The oracle is one sentence: a valid token, or ``CredentialUnavailableError`` within the budget, with a message and
without a secret; and in a chain, a token always. Run all of it with ``make faults``; the test suite takes a sample.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event
from typing import Any

import trio
from azure.core.credentials import AccessToken
from azure.identity import ChainedTokenCredential, CredentialUnavailableError
from azure.identity.aio import ChainedTokenCredential as AsyncChainedTokenCredential

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential

from . import misbehaving as peer
from .misbehaving import Behaviour, MisbehavingServer

SCOPE = "https://management.azure.com/.default"
SECRET = "canary-token-that-nobody-may-see"
OF_AZ = "token-of-az"
BUDGET = 0.3
GRACE = 1.2
"""Seconds that a loaded machine may add to the budget."""

KINDS = ("sync", "asyncio", "trio")
OK = b"HTTP/1.1 200 OK\r\n"


def body(**fields: Any) -> bytes:
    """A good reply with some fields changed; ``...`` takes one out."""
    content = {"access_token": SECRET, "expires_on": str(int(time.time()) + 3600), "token_type": "Bearer"} | fields
    return json.dumps({name: value for name, value in content.items() if value is not ...}).encode()


def raw(head: bytes, content: bytes = b"") -> Behaviour:
    return peer.send(head + b"\r\n" + content)


def half_close(data: bytes) -> Behaviour:
    """Send, then end the sending side only."""

    def behave(connection: socket.socket, stopped: Event) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        stopped.wait(0.05)

    return behave


def in_bytes(data: bytes) -> Behaviour:
    """Send a whole reply byte by byte, without waiting."""

    def behave(connection: socket.socket, stopped: Event) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            connection.sendall(bytes([byte]))

    return behave


GOOD = body()
WHOLE = OK + f"Content-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD
ERROR = b'{"error":{"code":"odd","message":"' + SECRET.encode() + b'","access_token":"' + SECRET.encode() + b'"}}'

CONNECTIONS: dict[str, Behaviour] = {
    "closes at once": peer.send(b""),
    "resets at once": peer.reset(),
    "resets inside the status line": peer.reset(b"HTTP/1."),
    "resets inside the headers": peer.reset(OK + b"Content-"),
    "resets inside the body": peer.reset(WHOLE[:-5]),
    "resets after the reply": peer.reset(WHOLE),
    "half-closes after the reply": half_close(WHOLE),
    "half-closes inside the reply": half_close(WHOLE[:-5]),
    "hangs": peer.hang(),
    "hangs inside the status line": peer.hang(b"HTTP/1.1"),
    "hangs after the headers": peer.hang(OK + b"Content-Length: 9\r\n\r\n"),
    "hangs inside the body": peer.hang(WHOLE[:-1]),
    "hangs after the reply": peer.hang(WHOLE),
    "sends byte by byte": in_bytes(WHOLE),
    "drips a status line": peer.drip(b"HTTP/1.1 200 "),
    "drips headers": peer.drip(OK + b"X-A: "),
    "drips a body": peer.drip(OK + b"Content-Length: 99999\r\n\r\n"),
    "drips chunks": peer.drip(OK + b"Transfer-Encoding: chunked\r\n\r\nfff\r\n"),
    "endless body": peer.flood(OK + b"\r\n"),
    "endless header": peer.flood(OK + b"X: "),
    "endless headers": peer.flood(OK, b"X: y\r\n" * 1000),
    "endless chunks": peer.flood(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000),
    "endless interim replies": peer.flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "endless blank lines": peer.flood(b"", b"\r\n" * 1000),
    "two replies at once": peer.send(WHOLE + WHOLE),
    "a reply and garbage": peer.send(WHOLE + b"\x00" * 5000),
    "keep-alive, then closed": raw(OK + f"Connection: keep-alive\r\nContent-Length: {len(GOOD)}\r\n".encode(), GOOD),
}

FRAMINGS: dict[str, Behaviour] = {
    **{
        f"Content-Length: {length}": raw(OK + f"Content-Length: {length}\r\n".encode(), GOOD)
        for length in ("0", "1", "99999", "-1", "1e3", "0x10", "", " ", "1, 2", "9" * 30, "+5")
    },
    "two lengths": raw(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n", GOOD),
    "length and chunked": raw(OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    **{
        f"chunks: {chunks!r:.30}": raw(OK + b"Transfer-Encoding: chunked\r\n", chunks)
        for chunks in (
            b"",
            b"\r\n",
            b"0\r\n\r\n",
            b"zz\r\n{}\r\n0\r\n\r\n",
            b"-1\r\n{}\r\n",
            b"2\r\n{}",
            b"2\r\n{}0\r\n\r\n",
            b"1\r\n{}\r\n0\r\n\r\n",
            b"ffffffffffffffff\r\n",
            b"2;" + b"x" * 70000 + b"\r\n{}\r\n",
            b"2\r\n{}\r\n0\r\nX: y\r\n\r\n",
            b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD),
        )
    },
    **{
        f"Transfer-Encoding: {coding}": raw(OK + f"Transfer-Encoding: {coding}\r\n".encode(), GOOD)
        for coding in ("gzip", "gzip, chunked", "identity", "nonsense", "chunked, chunked")
    },
    "gzip": peer.reply(gzip.compress(GOOD), 200, "Content-Encoding: gzip"),
    "a bomb of gzip": peer.reply(gzip.compress(b"{" + b" " * 200_000_000), 200, "Content-Encoding: gzip"),
    "garbage for gzip": peer.reply(b"\x1f\x8b\x08garbage", 200, "Content-Encoding: gzip"),
    "deflate": peer.reply(b"garbage", 200, "Content-Encoding: deflate"),
    "an unknown coding": peer.reply(GOOD, 200, "Content-Encoding: rot13"),
    "identity": peer.reply(GOOD, 200, "Content-Encoding: identity"),
    "a flood of headers": peer.reply(GOOD, 200, *(f"X-{index}: y" for index in range(5000))),
    "a giant header": peer.reply(GOOD, 200, "X: " + "y" * 200_000),
    "a header without a name": peer.reply(GOOD, 200, ": y"),
    "a header without a colon": peer.reply(GOOD, 200, "nonsense"),
    "a folded header": peer.reply(GOOD, 200, "X: a\r\n  b"),
    "a header in Latin-1": peer.reply(GOOD, 200, "X: \xe9\xff"),
    "the token as status line": peer.send(SECRET.encode() + b"\r\n\r\n"),
    # Twice, since what is taken out of headers has the length of a token.
    "the token as header": peer.reply(b"", 200, f"{SECRET * 2}: {SECRET * 2}"),
    "the token beside itself": peer.reply(GOOD, 200, f"access_token: {SECRET * 2}"),
    "no HTTP": peer.send(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "HTTP/0.9": peer.send(GOOD),
    "HTTP/2": peer.send(b"HTTP/2 200 OK\r\n\r\n" + GOOD),
    "TLS": peer.send(b"\x15\x03\x01\x00\x02\x02\x46"),
    "bare line feeds": peer.send(b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"),
}

BODIES: dict[str, Behaviour] = {
    f"status {status} with {name}": peer.reply(content, status, *headers)
    for status in range(100, 600)
    for name, content, headers in (
        ("a token", GOOD, ()),
        ("an error", ERROR, ()),
        ("HTML", b"<html>no</html>", ()),
        ("nothing", b"", ("Retry-After: 1",)),
    )
}

REDIRECTS: dict[str, Behaviour] = {
    f"{status} to {location!r:.40}": peer.reply(b"", status, f"Location: {location}")
    for status in (300, 301, 302, 303, 307, 308)
    for location in (
        "/oauth2/token",
        "http://localhost:1/",
        "https://evil.example/",
        "//evil.example",
        "",
        "javascript:",
    )
}

VALUES: dict[str, Any] = {
    "absent": ...,
    "null": None,
    "true": True,
    "false": False,
    "0": 0,
    "-1": -1,
    "1.5": 1.5,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "1e400": 10**400,
    "now": int(time.time()),
    "soon": int(time.time()) + 60,
    "in milliseconds": (int(time.time()) + 60) * 1000,
    "empty text": "",
    "text": "text",
    "digits": "3600",
    "negative digits": "-3600",
    "wide digits": "３６００",
    "many digits": "9" * 5000,
    "CR LF": "a\r\nX-Injected: b",
    "not ASCII": "tökén",
    "NUL": "a\x00b",
    "a surrogate": "\ud800",
    "a megabyte": "x" * 900_000,
    "a list": [SECRET],
    "an object": {"a": SECRET},
    "nested": [[[[[[[[]]]]]]]],
}
FIELDS = ("access_token", "expires_on", "expires_in", "token_type", "resource", "error", "error_description")

JSON: dict[str, Behaviour] = {
    **{
        f"{field} is {name}": peer.reply(
            body(**{field: value, **({"expires_on": ...} if field == "expires_in" else {})})
        )
        for field in FIELDS
        for name, value in VALUES.items()
    },
    **{
        f"error.{part} is {name}": peer.reply(
            json.dumps({"error": {"code": "c", "message": "m", part: None if value is ... else value}}).encode(), 400
        )
        for part in ("code", "message")
        for name, value in VALUES.items()
    },
    **{
        f"the body is {name}": peer.reply(content)
        for name, content in {
            "a list": b"[]",
            "a number": b"7",
            "text": b'"text"',
            "null": b"null",
            "true": b"true",
            "NaN": b"NaN",
            "400 kB of brackets": b"[" * 400_000,
            "400 kB of objects": b'{"a":' * 80_000,
            "a long number": b"9" * 100_000,
            "white space": b" \r\n\t",
            "cut off": GOOD[:-2],
            "with a tail": GOOD + b"}",
            "duplicate keys": b'{"access_token":"","access_token":"x","expires_in":60,"expires_in":"60"}',
            "with a byte order mark": b"\xef\xbb\xbf" + GOOD,
            "UTF-16": GOOD.decode().encode("utf-16"),
            "UTF-32": GOOD.decode().encode("utf-32"),
            "invalid UTF-8": GOOD.replace(b"canary", b"\xff\xfe"),
            "NULs": b"\x00" * 100,
            "a comment": b"// " + GOOD,
            "single quotes": GOOD.replace(b'"', b"'"),
            "form-encoded": b"access_token=x&expires_in=60",
            "JSON lines": GOOD + b"\n" + GOOD,
        }.items()
    },
    "labelled text/plain": peer.reply(GOOD, content_type="text/plain"),
    "labelled as a picture": peer.reply(GOOD, content_type="image/png"),
    "labelled nonsense": peer.reply(GOOD, content_type="; charset=nonsense"),
}

FAULTS: dict[str, Behaviour] = {**CONNECTIONS, **FRAMINGS, **REDIRECTS, **JSON, **BODIES}


class Az:
    """The next credential of the chain."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(OF_AZ, int(time.time()) + 3600)

    def close(self) -> None:
        pass


class AsyncAz:
    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return Az().get_token(*scopes)

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> AsyncAz:
        return self

    async def __aexit__(self, *args: object) -> None:
        pass


@dataclass(frozen=True)
class Case:
    fault: str
    kind: str
    in_chain: bool

    def __str__(self) -> str:
        return f"{self.fault}, {self.kind}, {'in a chain' if self.in_chain else 'alone'}"

    def get_token(self, endpoint: str) -> AccessToken:
        options: dict[str, Any] = {
            "endpoint": endpoint,
            "timeout": BUDGET,
            "retry_total": 1,
            "retry_backoff_factor": 0.001,
        }
        if self.kind == "sync":
            credential: Any = CloudShellCredential(**options)
            chain: Any = ChainedTokenCredential(credential, Az()) if self.in_chain else credential
            token: AccessToken = chain.get_token(SCOPE)
            return token

        async def get() -> AccessToken:
            credential = AsyncCloudShellCredential(**options)
            chain: Any = AsyncChainedTokenCredential(credential, AsyncAz()) if self.in_chain else credential
            token: AccessToken = await chain.get_token(SCOPE)
            return token

        if self.kind == "trio":
            return trio.run(get)
        return asyncio.run(get())


CASES = [Case(fault, kind, in_chain) for fault in FAULTS for kind in KINDS for in_chain in (False, True)]


def verdict(case: Case, server: MisbehavingServer) -> str | None:
    """How a case failed; None if it passed."""
    server.behaviour = FAULTS[case.fault]
    start = time.monotonic()
    try:
        token = case.get_token(server.endpoint)
    except CredentialUnavailableError as error:
        shown = f"{error} {error!r} {error.__cause__!r} {error.__context__!r} {error.__dict__!r}"
        if SECRET in shown:
            return "a secret was shown"
        if len(error.message) < 50 or "az login" not in error.message:
            return f"the message does not help: {error.message}"
        if case.in_chain:
            return "the chain did not go on"
    except Exception as error:
        return f"raised {type(error).__name__}"
    else:
        if not token.token.isascii() or not token.token.isprintable() or token.expires_on <= time.time():
            return "an invalid token was handed out"
    elapsed = time.monotonic() - start
    return f"took {elapsed:.1f} seconds" if elapsed > BUDGET + GRACE else None


def run(cases: list[Case]) -> Iterator[tuple[Case, str]]:
    """The cases that failed, and how."""
    with MisbehavingServer(peer.send(b"")) as server:
        for case in cases:
            if (how := verdict(case, server)) is not None:
                yield case, how


def main() -> int:
    failed = 0
    for case, how in run(CASES):
        failed += 1
        print(f"{case}: {how}")
    print(f"{len(CASES)} cases, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
