"""A small HTTP server, in background threads: the emulator, its stand-ins and the broker are served by it.

One thread for each connection. It listens on loopback unless it is told otherwise, and stops at once, even with
connections open. Sockets are bound by ``bind``, and what reads requests is imported with the first connection, so that
a command that serves starts fast.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Condition, Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from .messages import Request, Response, error_response

if TYPE_CHECKING:
    import ssl

    from .connection import Message

_IDLE_SECONDS = 30.0
_BACKLOG = 256
_POLL_SECONDS = 0.05
_PAUSE_SECONDS = 0.1
_GRACE_SECONDS = 1.0

MAX_CONNECTIONS = 512
"""At one time, where the process may open twice as many files. When there are more, the one that has been idle for the
longest is closed."""

_MIN_CONNECTIONS = 4

_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ATTEMPTS = 50

# One without a descriptor of its own, which there may not be, and which a forked process would hold. select() is for
# Windows alone: elsewhere it takes no descriptor above 1,023.
_SELECTOR = getattr(selectors, "PollSelector", selectors.SelectSelector)

ServedT = TypeVar("ServedT", bound="Served")


class PortInUseError(OSError):
    """The port is taken."""


class _Connection:
    """An open connection. Its socket is another one once it speaks TLS."""

    __slots__ = ("socket",)

    def __init__(self, socket: socket.socket) -> None:
        self.socket = socket


class Server:
    """Serves until it is stopped.

    :param handle: responds to a request; called on a thread for each connection.
    :param port: 0 takes a free one.
    :param ssl_context: serve HTTPS with it.
    :param addresses: all of them are listened on, at the same port, or there is an error: what another user listens on
        is not named by our URLs. Of several, those that this machine does not have (``::1`` without IPv6) are left out.
    :param opening: called with each connection before TLS; an ``OSError`` closes it. A proxy answers CONNECT in it.
    :param refused: told the status and the reason of what was refused before it was a request.
    """

    def __init__(
        self,
        handle: Callable[[Request], Response],
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        *,
        addresses: Sequence[str] = ("127.0.0.1",),
        opening: Callable[[socket.socket], None] = lambda _connection: None,
        refused: Callable[[int, str], None] = lambda _status, _reason: None,
    ) -> None:
        self._handle = handle
        self._opening = opening
        self._ssl_context = ssl_context
        self.addresses = addresses
        self._refused = refused
        self.listeners: list[socket.socket] = []
        self._changed = Condition()
        # Open ones; and those that wait for a request, with the time since when, the longest first.
        self._connections: set[_Connection] = set()
        self._idle: dict[_Connection, float] = {}
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
        attempts = 1 if self.port or len(self.addresses) == 1 else _ATTEMPTS
        for left in reversed(range(attempts)):
            try:
                self.adopt(_listen(self.addresses, self.port))
                break
            except PortInUseError:
                # The free port of one address may be taken on another.
                if not left:
                    raise

    def adopt(self, listeners: Sequence[socket.socket]) -> None:
        """Take over listening sockets.

        :raises OSError: if there can be no further socket.
        """
        self.listeners = list(listeners)
        self.port = self.listeners[0].getsockname()[1]
        try:
            self._waking = socket.socketpair()
        except OSError:
            self._close()
            raise
        _bound.add(self)

    def release(self) -> list[socket.socket]:
        """Hand over the listening sockets, for another process to adopt."""
        listeners, self.listeners = self.listeners, []
        self._close()
        return listeners

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
        if self._waking is not None:
            self._waking[0].send(b"x")
        with self._changed:
            self._changed.notify_all()
        if thread is not None:
            thread.join()
        self._close()
        with self._changed:
            connections = list(self._connections)
        for connection in connections:
            _hang_up(connection.socket)

    def _close(self) -> None:
        _bound.discard(self)
        waking, self._waking = self._waking, None
        listeners, self.listeners = self.listeners, []
        for each in (*(waking or ()), *listeners):
            each.close()

    def _leave_to_parent(self) -> None:
        """In a forked process: hold nothing of the server, which goes on in the parent."""
        sockets = [*self.listeners, *(self._waking or ()), *(each.socket for each in self._connections)]
        for each in sockets:
            # Not close(): the threads that are not here have files of these sockets.
            with suppress(OSError):
                os.close(each.detach())
        self.listeners, self._waking, self._thread = [], None, None
        # Another thread may have held it.
        self._changed = Condition()
        self._connections, self._idle = set(), {}

    def _accept(self, woken: socket.socket) -> None:
        with _SELECTOR() as selector:
            for each in (woken, *self.listeners):
                selector.register(each, selectors.EVENT_READ)
            while not self._stopped.is_set():
                for key, _ in selector.select():
                    if key.fileobj is woken:
                        woken.recv(1)
                    elif self._has_room():
                        self._accept_one(key.fileobj)  # type: ignore[arg-type] # sockets, all of them

    def _has_room(self) -> bool:
        """Wait until there may be another connection; False if the server stops meanwhile."""
        since = monotonic()
        with self._changed:
            while len(self._connections) >= _max_connections() and not self._stopped.is_set():
                self._changed.wait(self._hang_up_an_idle_one(since))
        return not self._stopped.is_set()

    def _accept_one(self, listener: socket.socket) -> None:
        try:
            connection = _Connection(listener.accept()[0])
        except OSError as error:
            if error.errno in _EXHAUSTED:
                # It would be ready at once again.
                with self._changed:
                    self._hang_up_an_idle_one(monotonic())
                self._stopped.wait(_PAUSE_SECONDS)
            return
        with self._changed:
            self._connections.add(connection)
            self._idle[connection] = monotonic()
        try:
            Thread(target=self._serve, args=(connection,), name="azure-cloudshell-server", daemon=True).start()
        except RuntimeError:
            # No thread to be had: the client sees a closed connection, and the server goes on.
            self._forget(connection)

    def _hang_up_an_idle_one(self, newcomer: float) -> float | None:
        """Close the connection that has been idle for the longest.

        :param newcomer: since when another one has been waiting for its place.
        :return: how long to wait for one, in seconds; None: until something changes.
        """
        oldest, since = next(iter(self._idle.items()), (None, 0.0))
        if oldest is None:
            return None
        # One that has just been opened is about to bring its request. But if each brings one again and again, none is
        # ever idle for that long, and the newcomer is not to wait for ever.
        if (wait := min(since, newcomer) + _GRACE_SECONDS - monotonic()) > 0:
            return wait
        del self._idle[oldest]
        _hang_up(oldest.socket)
        return None

    def _serve(self, connection: _Connection) -> None:
        try:
            connection.socket.settimeout(_IDLE_SECONDS)
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._opening(connection.socket)
            if self._ssl_context is not None:
                connection.socket = self._ssl_context.wrap_socket(connection.socket, server_side=True)
            from .connection import converse

            converse(connection.socket, lambda message: self._respond(connection, message), self._refused)
        except (OSError, ValueError):
            # A peer that speaks no TLS, sends nothing in time or goes away.
            pass
        finally:
            self._forget(connection)

    def _forget(self, connection: _Connection) -> None:
        _hang_up(connection.socket)
        connection.socket.close()
        with self._changed:
            self._connections.discard(connection)
            self._idle.pop(connection, None)
            self._changed.notify_all()

    def _respond(self, connection: _Connection, message: Message) -> Response:
        """Respond to a request, even if the handler fails."""
        with self._changed:
            self._idle.pop(connection, None)
        request = Request(*message, wait=lambda seconds: self._wait(connection.socket, seconds))
        try:
            return self._handle(request)
        except Exception as error:
            # The text of an unforeseen error may hold anything.
            return error_response(500, "internal_error", f"The server failed: {type(error).__name__}.")
        finally:
            with self._changed:
                self._idle[connection] = monotonic()
                self._changed.notify_all()

    def _wait(self, connection: socket.socket, seconds: float) -> bool:
        """Wait; False if the client goes away or the server stops meanwhile."""
        deadline = monotonic() + seconds
        while (remaining := deadline - monotonic()) > 0:
            if self._stopped.wait(min(remaining, _POLL_SECONDS)):
                return False
            if _has_gone(connection):
                return False
        return True


class Served:
    """What has a server: it is started and stopped, by methods or by a ``with`` statement."""

    _server: Server

    def start(self: ServedT) -> ServedT:
        """Start serving.

        :raises OSError: if the port is taken.
        """
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop serving, even with connections open."""
        self._server.stop()

    def __enter__(self: ServedT) -> ServedT:
        return self.start()

    def __exit__(self, *args: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port it serves."""
        return self._server.port


_bound: set[Server] = set()


def _leave_all_to_parent() -> None:
    for server in list(_bound):
        server._leave_to_parent()
    _bound.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all_to_parent)


def _max_connections() -> int:
    """How many connections there may be: half of what the process may open, for its handlers open files too."""
    try:
        from resource import RLIMIT_NOFILE, getrlimit
    except ImportError:
        # Windows, whose sockets are not counted among the files.
        return MAX_CONNECTIONS
    files = getrlimit(RLIMIT_NOFILE)[0]
    # A negative one is none.
    return MAX_CONNECTIONS if files < 0 else min(MAX_CONNECTIONS, max(_MIN_CONNECTIONS, files // 2))


def _listen(addresses: Sequence[str], port: int) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    try:
        for address in addresses:
            try:
                listeners.append(_listener(address, listeners[0].getsockname()[1] if listeners else port))
            except OSError as error:
                if not listeners or error.errno not in _NO_SUCH_ADDRESS:
                    raise
    except BaseException:
        for each in listeners:
            each.close()
        raise
    return listeners


def _listener(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        if ":" in address:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if os.name != "nt":
            # On Windows it would let two programs have one port.
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


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _has_gone(connection: socket.socket) -> bool:
    import ssl

    if isinstance(connection, ssl.SSLSocket):
        return False
    try:
        with _SELECTOR() as selector:
            selector.register(connection, selectors.EVENT_READ)
            # Readable without anything to read: the peer has closed it.
            return bool(selector.select(0)) and connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True
