"""The server that emulator and broker share: HTTP read in one way only, and nobody kept from it by others."""

from __future__ import annotations

import multiprocessing
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azure_cloudshell_credential._serving import server as server_module
from azure_cloudshell_credential._serving.messages import Request, Response, compact
from azure_cloudshell_credential._serving.server import PortInUseError, Server

from .conftest import in_threads
from .squatter import has_ipv6, squatter

__all__ = ["squatter"]

HEAD = b"POST /x HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Echo:
    """Responds with what it understood, and keeps it."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.refused: list[tuple[int, str]] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return Response(200, compact([request.method, request.path, request.body.decode("latin-1")]))


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def server(echo: Echo) -> Iterator[Server]:
    server = Server(echo, refused=lambda *refused: echo.refused.append(refused))
    server.start()
    yield server
    server.stop()


def send(server: Server, data: bytes, *, ends: bool = True) -> bytes:
    """What the server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(data)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65536):
            received += part
    return received


def statuses(received: bytes) -> list[int]:
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


class TestBodies:
    @pytest.mark.parametrize(
        ("chunks", "body"),
        [
            (b"0\r\n\r\n", b""),
            (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
            (b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
            (b"0003\r\nabc\r\n000\r\n\r\n", b"abc"),
            (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
            (b"a\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n\r\n\r\n\r\n"),
            (b"10000\r\n" + b"x" * 65536 + b"\r\n0\r\n\r\n", b"x" * 65536),
        ],
    )
    def test_chunks_are_read(self, server: Server, echo: Echo, chunks: bytes, body: bytes) -> None:
        assert statuses(send(server, CHUNKED + chunks + NEXT)) == [200, 200]
        assert [(request.method, request.body) for request in echo.requests] == [("POST", body), ("GET", b"")]

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (CHUNKED + b"3\nabc\n0\n\n", 400),
            (CHUNKED + b"3\r\nabc\n0\r\n\r\n", 400),
            (CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", 400),
            (CHUNKED + b"3\r\nab\r\n0\r\n\r\n", 400),
            (CHUNKED + b"3;a=b\r\nabc\r\n0\r\n\r\n", 400),
            (CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", 400),
            (CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n", 400),
            (CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", 400),
            (CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n", 400),
            (CHUNKED + b"-1\r\nabc\r\n0\r\n\r\n", 400),
            (CHUNKED + b"\r\nabc\r\n0\r\n\r\n", 400),
            (CHUNKED + b"g\r\nabc\r\n0\r\n\r\n", 400),
            (CHUNKED + b"3\rabc\r\n0\r\n\r\n", 400),
            (CHUNKED + b"\xd9\xa3\r\nabc\r\n0\r\n\r\n", 400),
            (CHUNKED + b"000000003\r\nabc\r\n0\r\n\r\n", 400),
            (CHUNKED + b"3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n", 400),
            (CHUNKED + b"3" + b"0" * 100 + b"\r\n", 431),
            (CHUNKED + b"10001\r\n", 413),
            (CHUNKED + b"ffffffff\r\n", 413),
            (CHUNKED + b"8000\r\n" + b"x" * 32768 + b"\r\n8001\r\n", 413),
            (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", 400),
            (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400),
            (HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501),
            (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
            (HEAD + b"Transfer-Encoding: identity\r\n\r\n", 501),
            (HEAD + b"Transfer-Encoding: \r\n\r\n", 501),
            (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            (CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n", 400),
            (HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
            (HEAD + b"Content-Length: 3, 3\r\n\r\nabc", 400),
            (HEAD + b"Content-Length: +3\r\n\r\nabc", 400),
            (HEAD + b"Content-Length: 0x3\r\n\r\nabc", 400),
            (HEAD + b"Content-Length: 3_0\r\n\r\nabc", 400),
            (HEAD + b"Content-Length:\r\n\r\nabc", 400),
            (HEAD + b"Content-Length: 65537\r\n\r\n", 413),
            (HEAD + b"Expect: something\r\n\r\n", 417),
        ],
    )
    def test_framing_that_could_be_read_in_two_ways_is_refused(
        self, server: Server, echo: Echo, data: bytes, status: int
    ) -> None:
        assert statuses(send(server, data + NEXT)) == [status]
        assert echo.requests == []
        assert [refused[0] for refused in echo.refused] == [status]

    @pytest.mark.parametrize(
        "data",
        [CHUNKED, CHUNKED + b"3", CHUNKED + b"3\r\nab", CHUNKED + b"3\r\nabc\r\n", CHUNKED + b"0\r\n",
         HEAD + b"Content-Length: 3\r\n\r\nab", HEAD, HEAD[:9], b""],
    )  # fmt: skip
    def test_a_client_that_goes_away_halfway_has_asked_nothing(self, server: Server, echo: Echo, data: bytes) -> None:
        assert send(server, data) == b""
        assert echo.requests == []

    def test_a_client_that_waits_for_leave_gets_it(self, server: Server, echo: Echo) -> None:
        with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
            connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"abc")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert echo.requests[0].body == b"abc"

    def test_a_refusal_reaches_a_client_that_is_still_sending(self, server: Server) -> None:
        with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
            connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n" + b"x" * 500_000)
            assert connection.recv(1000).startswith(b"HTTP/1.1 413")


class TestHeads:
    @pytest.mark.parametrize(
        "head",
        [
            b"GET /x HTTP/1.1\nHost: localhost\n\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n",
            b"GET /x HTTP/1.1\r\nX: a\rHost: localhost\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\n X: y\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost : localhost\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            b"GET /x HTTP/1.1\r\nX: \x00\r\n\r\n",
            b"GET /x HTTP/1.1\r\n: y\r\n\r\n",
            b"GET /x HTTP/1.1\r\nX\r\n\r\n",
            b"GET  /x HTTP/1.1\r\n\r\n",
            b"GET /x\r\n\r\n",
            b"GET x HTTP/1.1\r\n\r\n",
            b"GET http://evil.example/ HTTP/1.1\r\n\r\n",
            b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET http://localhost/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            b"GET http://x@localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET https://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"CONNECT evil.example HTTP/1.1\r\n\r\n",
            b"\r\nGET /x HTTP/1.1\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\n\r\n",
        ],
    )
    def test_a_malformed_head_is_refused(self, server: Server, echo: Echo, head: bytes) -> None:
        assert statuses(send(server, head)) == [400]
        assert echo.requests == []

    @pytest.mark.parametrize(
        ("target", "path"),
        [(b"http://LOCALHOST:80/x?y=z", "/x"), (b"HTTP://localhost:80", "/"), (b"http://localhost:80?y=z", "/")],
    )
    def test_a_target_may_name_the_host_too(self, server: Server, echo: Echo, target: bytes, path: str) -> None:
        # As clients write it that have heard of a proxy, RFC 9112, 3.2.2.
        sent = b"GET %b HTTP/1.1\r\nHost: localhost:80\r\nConnection: close\r\n\r\n" % target
        assert statuses(send(server, sent)) == [200]
        assert [request.path for request in echo.requests] == [path]
        assert echo.requests[0].query == ({"y": "z"} if b"?" in target else {})

    def test_long_lines_and_many_headers_are_refused(self, server: Server) -> None:
        assert statuses(send(server, b"GET /" + b"a" * 70_000)) == [431]
        assert statuses(send(server, HEAD + b"X: y\r\n" * 200 + b"\r\n")) == [431]

    def test_a_head_is_bounded_as_a_whole(self, server: Server) -> None:
        for size in (1_000, 10_000, 40_000):
            lines = (b"X: " + b"y" * (size - 5) + b"\r\n") * (66_000 // size + 1)
            assert statuses(send(server, HEAD + lines)) == [431]
        closing = b"Connection: close\r\n"
        # One byte less, and it is read to its end.
        for extra, status in ((0, 200), (1, 431)):
            line = b"X: " + b"y" * (64 * 1024 - len(HEAD) - len(closing) - 7 + extra) + b"\r\n"
            assert statuses(send(server, HEAD + closing + line + b"\r\n")) == [status]

    def test_a_long_run_of_spaces_takes_no_time(self, server: Server) -> None:
        start = time.monotonic()
        assert statuses(send(server, HEAD + b"X:" + b" " * 60_000 + b"\x00\r\n\r\n")) == [400]
        assert time.monotonic() - start < 5

    def test_a_connection_goes_on_as_the_version_says(self, server: Server) -> None:
        one = b"GET /x HTTP/1.0\r\n\r\n"
        assert statuses(send(server, one + one)) == [200]
        kept = b"GET /x HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
        assert statuses(send(server, kept + one)) == [200, 200]
        assert statuses(send(server, NEXT + NEXT)) == [200]

    def test_a_head_request_has_no_body(self, server: Server) -> None:
        received = send(server, b"HEAD /x HTTP/1.1\r\n\r\n")
        assert received.endswith(b"\r\n\r\n")
        assert b"Content-Length: 16" in received

    @given(st.binary(max_size=200))
    @settings(max_examples=200)
    def test_whatever_is_sent_it_goes_on_serving(self, data: bytes) -> None:
        server = _shared()
        send(server, data)
        send(server, HEAD + data)
        send(server, CHUNKED + data)
        assert statuses(send(server, NEXT)) == [200]


_servers: list[Server] = []


def _shared() -> Server:
    if not _servers:
        _servers.append(Server(Echo()))
        _servers[0].start()
    return _servers[0]


def teardown_module() -> None:
    for server in _servers:
        server.stop()


def is_open(connection: socket.socket) -> bool:
    """Whether the peer has kept it open. It has sent nothing."""
    return not select.select([connection], [], [], 0)[0]


class TestCrowds:
    """Nobody keeps it from serving others: not by many connections, not by slow ones, not by taking all descriptors."""

    def test_of_too_many_connections_the_idle_ones_are_closed(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 20)
        monkeypatch.setattr(server_module, "_GRACE_SECONDS", 0.02)
        with ExitStack() as stack:
            crowd = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10)) for _ in range(200)]
            assert statuses(send(server, NEXT)) == [200]
            assert crowd[0].recv(1) == b""
            assert sum(is_open(each) for each in crowd) <= 20

    def test_connections_that_ask_again_and_again_make_room_for_others(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 4)
        monkeypatch.setattr(server_module, "_GRACE_SECONDS", 0.4)
        ended = Event()

        def keep_asking(connection: socket.socket) -> None:
            with suppress(OSError):
                while not ended.wait(0.02):
                    connection.sendall(HEAD + b"\r\n")
                    connection.recv(1000)

        with ExitStack() as stack:
            crowd = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20)) for _ in range(4)]
            threads = [Thread(target=keep_asking, args=[each]) for each in crowd]
            for thread in threads:
                thread.start()
            try:
                time.sleep(0.1)
                assert statuses(send(server, NEXT)) == [200]
            finally:
                ended.set()
                for thread in threads:
                    thread.join()

    def test_a_connection_that_is_being_responded_to_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 4)
        monkeypatch.setattr(server_module, "_GRACE_SECONDS", 0.02)
        go = Event()

        def handle(request: Request) -> Response:
            if request.path == "/slow":
                go.wait(20)
            return Response(200)

        server = Server(handle)
        server.start()
        with ExitStack() as stack:
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
            slow.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while server._idle or not server._connections:
                time.sleep(0.01)
            for _ in range(50):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
            assert statuses(send(server, NEXT)) == [200]
            go.set()
            assert slow.recv(1000).startswith(b"HTTP/1.1 200")
        server.stop()

    def test_when_all_are_busy_newcomers_wait_their_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)

        def handle(request: Request) -> Response:
            time.sleep(0.02)
            return Response(200)

        server = Server(handle)
        server.start()
        assert in_threads(30, lambda _: statuses(send(server, NEXT))) == [[200]] * 30
        server.stop()

    def test_a_server_whose_connections_are_all_busy_stops(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 1)
        server = Server(lambda request: Response(200, drops=not request.wait(20)))
        server.start()
        with ExitStack() as stack:
            for _ in range(3):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
                client.sendall(NEXT)
            time.sleep(0.1)
            start = time.monotonic()
            server.stop()
            assert time.monotonic() - start < 5

    def test_a_process_out_of_descriptors_pauses_and_goes_on(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", OUT_OF_DESCRIPTORS], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        spent, status = done.stdout.split()
        # A server that spins takes all of the second and a half.
        assert float(spent) < 0.7
        assert status == "200"

    def test_a_client_that_waits_is_still_there_though_more_than_1024_files_are_open(self) -> None:
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 4000:
            pytest.skip("needs leave to open 4,000 files")
        done = subprocess.run(
            [sys.executable, "-c", MANY_DESCRIPTORS], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.stdout, done.stderr) == ("200\n", "")


MANY_DESCRIPTORS = """
import os, resource, socket
from azure_cloudshell_credential._serving.messages import Response
from azure_cloudshell_credential._serving.server import Server
resource.setrlimit(resource.RLIMIT_NOFILE, (4000, 4000))
taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
server = Server(lambda request: Response(200, drops=not request.wait(0.2)))
server.start()
with socket.create_connection(("127.0.0.1", server.port), 20) as client:
    client.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
    print(client.recv(100).split()[1].decode())
server.stop()
"""

OUT_OF_DESCRIPTORS = """
import os, resource, socket, time
from azure_cloudshell_credential._serving.messages import Response
from azure_cloudshell_credential._serving.server import Server
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
server = Server(lambda request: Response(200))
server.start()
client = socket.socket()
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
client.connect(("127.0.0.1", server.port))
before = time.process_time()
time.sleep(1.5)
spent = time.process_time() - before
for descriptor in taken:
    os.close(descriptor)
client.settimeout(10)
client.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
print(spent, client.recv(100).split()[1].decode())
server.stop()
"""


class TestForks:
    """A forked copy of the process neither holds the port nor touches the server."""

    def test_a_child_that_stops_its_copy_leaves_the_server_alone(self, server: Server) -> None:
        before = time.process_time()
        for _ in range(3):
            child = os.fork()
            if child == 0:
                server.stop()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        time.sleep(0.5)
        assert statuses(send(server, NEXT)) == [200]
        assert time.process_time() - before < 0.4

    def test_the_port_is_free_once_the_parent_has_stopped(self, echo: Echo) -> None:
        server = Server(echo)
        server.start()
        out, into = os.pipe()
        ready, started = os.pipe()
        client = socket.create_connection(("127.0.0.1", server.port), 10)
        child = os.fork()
        if child == 0:
            os.close(into)
            os.write(started, b"x")
            os.read(out, 1)
            os._exit(0)
        os.read(ready, 1)
        for descriptor in (out, ready, started):
            os.close(descriptor)
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), 10)
        # Neither are the connections held; one that had not been accepted is reset.
        with client, suppress(ConnectionResetError):
            assert client.recv(1) == b""
        again = Server(echo, server.port)
        again.start()
        again.stop()
        os.close(into)
        os.waitpid(child, 0)

    def test_a_child_can_serve_by_itself(self, server: Server) -> None:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                own = Server(Echo())
                own.start()
                status = 0 if statuses(send(own, NEXT)) == [200] else 2
                own.stop()
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0

    def test_multiprocessing_forks_too(self, server: Server) -> None:
        process = multiprocessing.get_context("fork").Process(target=server.stop)
        process.start()
        process.join(20)
        assert process.exitcode == 0
        assert statuses(send(server, NEXT)) == [200]


class TestAddresses:
    @pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
    def test_it_listens_on_all_of_its_addresses_or_on_none(self, echo: Echo, squatter: int) -> None:
        server = Server(echo, squatter, addresses=("127.0.0.1", "::1"))
        with pytest.raises(PortInUseError):
            server.start()
        assert server.listeners == []

    @pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
    def test_a_free_port_is_free_on_all_of_them(self, echo: Echo) -> None:
        server = Server(echo, addresses=("127.0.0.1", "::1"))
        server.start()
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, server.port), 10) as connection:
                connection.sendall(NEXT)
                assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        server.stop()

    def test_a_machine_without_ipv6_is_served_on_the_other(self, echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
        real = server_module._listener

        def listener(address: str, port: int) -> socket.socket:
            # What a kernel without IPv6 says.
            if ":" in address:
                raise OSError(97, "Address family not supported by protocol")
            return real(address, port)

        monkeypatch.setattr(server_module, "_listener", listener)
        server = Server(echo, addresses=("127.0.0.1", "::1"))
        server.start()
        assert statuses(send(server, NEXT)) == [200]
        server.stop()

    def test_an_address_that_is_not_here_is_an_error(self, echo: Echo) -> None:
        with pytest.raises(OSError, match="assign"):
            Server(echo, addresses=("192.0.2.1",)).start()


def test_a_stopped_server_leaves_no_descriptor(echo: Echo) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    for _ in range(5):
        server = Server(echo, addresses=("127.0.0.1", "::1"))
        server.start()
        send(server, NEXT)
        server.stop()
    deadline = time.monotonic() + 5
    while count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert count() <= before
