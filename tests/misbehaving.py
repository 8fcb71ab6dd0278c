"""A server that answers with exactly the bytes it is told to, as slowly and as wrongly as it is told to."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Event, Thread

Behaviour = Callable[[socket.socket, Event], None]


class MisbehavingServer:
    """Reads one request a connection, then does what ``behaviour`` does with the socket."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests: list[bytes] = []
        self.stopped = Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[Thread] = []

    @property
    def endpoint(self) -> str:
        return f"http://localhost:{self._listener.getsockname()[1]}/oauth2/token"

    def __enter__(self) -> MisbehavingServer:
        self._start(self._accept)
        return self

    def __exit__(self, *args: object) -> None:
        self.stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _start(self, target: Callable[[], None]) -> None:
        thread = Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(partial(self._serve, connection))

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self.requests.append(read_request(connection))
            self.behaviour(connection, self.stopped)


def read_request(connection: socket.socket) -> bytes:
    connection.settimeout(5)
    request = b""
    while b"\r\n\r\n" not in request:
        received = connection.recv(65536)
        if not received:
            return request
        request += received
    head, _, body = request.partition(b"\r\n\r\n")
    length = next(
        (int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        received = connection.recv(65536)
        body += received
    return head + b"\r\n\r\n" + body


def send(data: bytes) -> Behaviour:
    """Send these bytes and close the connection."""

    def behave(connection: socket.socket, stopped: Event) -> None:
        connection.sendall(data)

    return behave


def reply(body: bytes, status: int = 200, *headers: str, content_type: str = "application/json") -> Behaviour:
    """Send a well-formed reply."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers]
    return send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)


def hang(after: bytes = b"") -> Behaviour:
    """Send these bytes and then nothing, with the connection open."""

    def behave(connection: socket.socket, stopped: Event) -> None:
        connection.sendall(after)
        stopped.wait(30)

    return behave


def drip(data: bytes, seconds: float = 0.05) -> Behaviour:
    """Send one byte at a time, and go on with the last one for ever."""

    def behave(connection: socket.socket, stopped: Event) -> None:
        for index in range(10_000):
            connection.sendall(data[index : index + 1] or b"x")
            if stopped.wait(seconds):
                return

    return behave


def flood(head: bytes, chunk: bytes = b"x" * 65536) -> Behaviour:
    """Send a head and then body without end."""

    def behave(connection: socket.socket, stopped: Event) -> None:
        connection.sendall(head)
        while not stopped.is_set():
            connection.sendall(chunk)

    return behave


def reset(after: bytes = b"") -> Behaviour:
    """Send these bytes, then reset the connection."""

    def behave(connection: socket.socket, stopped: Event) -> None:
        connection.sendall(after)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    return behave
