"""A small HTTP server on loopback, in background threads: the emulator, its stand-ins and the broker are served by it.

One thread for each connection. It listens on loopback only, and stops at once, even with connections open. Sockets are
bound by ``start``, and the request handler is imported with the first connection, so that starting a server costs next
to nothing.
"""

from __future__ import annotations

import errno
import select
import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING

from .messages import Request, Response, error_response

if TYPE_CHECKING:
    import ssl

_IDLE_SECONDS = 30.0
_BACKLOG = 256
_POLL_SECONDS = 0.05


class PortInUseError(OSError):
    """The port is taken."""


class Server:
    """Serves until it is stopped.

    :param handle: responds to a request; called on a thread for each connection.
    :param port: the port on 127.0.0.1 and, where there is one, ::1; 0 takes a free one.
    :param ssl_context: serve HTTPS with it.
    :param opening: called with each connection before TLS; an ``OSError`` closes it. A proxy answers CONNECT in it.
    """

    def __init__(
        self,
        handle: Callable[[Request], Response],
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        opening: Callable[[socket.socket], None] | None = None,
    ) -> None:
        self._handle = handle
        self._ssl_context = ssl_context
        self._opening = opening
        self._listeners: list[socket.socket] = []
        self._connections: set[socket.socket] = set()
        self._mutex = Lock()
        self._stopped = Event()
        self._thread: Thread | None = None
        # Two ends of one connection: what is sent on the first wakes the thread that waits for connections.
        self._waking: tuple[socket.socket, socket.socket] | None = None
        self.port = port

    def start(self) -> None:
        """Start serving.

        :raises PortInUseError: if the port is taken.
        :raises OSError: if there can be no socket.
        """
        self.bind()
        self.serve()

    def bind(self) -> None:
        """Take the port. From now on connections are kept waiting until ``serve``.

        :raises PortInUseError: if the port is taken.
        :raises OSError: if there can be no socket.
        """
        self._listeners = [_listen("127.0.0.1", self.port)]
        try:
            self._waking = socket.socketpair()
        except OSError:
            self._listeners.pop().close()
            raise
        self.port = self._listeners[0].getsockname()[1]
        # Some clients try ::1 first for "localhost"; those that get no answer there go on to 127.0.0.1.
        with suppress(OSError):
            self._listeners.append(_listen("::1", self.port))

    def serve(self) -> None:
        """Serve, in a thread."""
        self._stopped = Event()
        assert self._waking is not None
        woken = self._waking[1]
        self._thread = Thread(target=self._accept, args=(woken,), name="azure-cloudshell-server", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving. Connections that are still open are closed."""
        thread, self._thread = self._thread, None
        self._stopped.set()
        waking, self._waking = self._waking, None
        if waking is not None:
            # Sent, not just closed: a forked process may hold the end that would be closed.
            waking[0].send(b"x")
        if thread is not None:
            thread.join()
        for end in waking or ():
            end.close()
        for listener in self._listeners:
            listener.close()
        with self._mutex:
            connections = list(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, woken: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            for each in (woken, *self._listeners):
                selector.register(each, selectors.EVENT_READ)
            while not self._stopped.is_set():
                for key, _ in selector.select():
                    with suppress(OSError):
                        # On the one that wakes, there is nothing to accept.
                        connection, _ = key.fileobj.accept()  # type: ignore[union-attr]
                        self._serve_in_a_thread(connection)

    def _serve_in_a_thread(self, connection: socket.socket) -> None:
        with self._mutex:
            self._connections.add(connection)
        try:
            Thread(target=self._serve, args=(connection,), name="azure-cloudshell-server", daemon=True).start()
        except RuntimeError:
            # No thread to be had: the client sees a closed connection, and the server goes on.
            self._forget(connection)

    def _serve(self, connection: socket.socket) -> None:
        wrapped = connection
        try:
            connection.settimeout(_IDLE_SECONDS)
            if self._opening is not None:
                self._opening(connection)
            if self._ssl_context is not None:
                wrapped = self._ssl_context.wrap_socket(connection, server_side=True)
                with self._mutex:
                    self._connections.discard(connection)
                    self._connections.add(wrapped)
            from .request_handler import RequestHandler

            RequestHandler(wrapped, self)
        except (OSError, ValueError):
            # A peer that speaks no TLS, sends nothing in time or goes away.
            pass
        finally:
            self._forget(wrapped)

    def _forget(self, connection: socket.socket) -> None:
        with self._mutex:
            self._connections.discard(connection)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def respond(self, request: Request) -> Response:
        """Respond to a request, even if the handler fails."""
        try:
            return self._handle(request)
        except Exception as error:
            # The text of an error that nobody foresaw may hold anything.
            return error_response(500, "internal_error", f"The server failed: {type(error).__name__}.")

    def wait(self, connection: socket.socket, seconds: float) -> bool:
        """Wait; False if the client goes away or the server stops meanwhile."""
        deadline = monotonic() + seconds
        while (remaining := deadline - monotonic()) > 0:
            if self._stopped.wait(min(remaining, _POLL_SECONDS)):
                return False
            if _has_gone(connection):
                return False
        return True


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        if ":" in address:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(error.errno, f"port {port} is in use") from None
        raise
    except BaseException:
        listener.close()
        raise
    return listener


def _has_gone(connection: socket.socket) -> bool:
    import ssl

    if isinstance(connection, ssl.SSLSocket):
        return False
    try:
        # Readable without anything to read: the peer has closed it.
        return bool(select.select([connection], [], [], 0)[0]) and connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True
