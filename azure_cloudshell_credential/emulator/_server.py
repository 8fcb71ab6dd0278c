"""An aiohttp application in a background thread, on loopback."""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread

from aiohttp import web

from . import faults

_LOGGER = logging.getLogger(__name__)

MAX_REQUEST_BODY = 64 * 1024

_LOOPBACK_AUTHORITY = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.IGNORECASE | re.ASCII)


@web.middleware
async def refuse_strangers(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuse what a browser or a rebound name sends: tokens are for programs on this machine.

    A page can make a browser send requests to loopback, but not without ``Origin`` or ``Sec-Fetch-Site`` when they are
    cross-site POSTs or scripts; and a DNS name that was rebound to loopback still stands in ``Host``.
    """
    if not _LOOPBACK_AUTHORITY.fullmatch(request.headers.get("Host", "")):
        return _forbidden("The Host header must name this machine (localhost, 127.0.0.1 or [::1]).")
    if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") != "none":
        return _forbidden("Requests from web pages are refused.")
    if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        return _forbidden("Forwarded requests are refused.")
    return await handler(request)


def error_response(status: int, code: str, message: str) -> web.Response:
    """An error in the form that the endpoint and Resource Manager share."""
    return web.json_response(text=faults.error_body(code, message), status=status)


def _forbidden(message: str) -> web.Response:
    return web.json_response({"error": {"code": "forbidden_by_emulator", "message": message}}, status=403)


async def _close(runner: web.AppRunner) -> None:
    # A TLS peer that does not answer the farewell would leave its socket open for good. The transports of connections
    # that are being closed already are known to the server alone.
    transports = list(getattr(runner.server, "_connections", {}).values())
    await runner.cleanup()
    for transport in transports:
        transport.abort()
    await asyncio.sleep(0.01)


class PortInUseError(OSError):
    """The port is taken."""


class BackgroundServer:
    """Serves an application until it is stopped.

    :param make_app: builds the application, on the server's event loop.
    :param port: the port on 127.0.0.1 and, where there is one, ::1; 0 takes a free one.
    :param ssl_context: serve HTTPS with it.
    """

    def __init__(
        self, make_app: Callable[[], web.Application], port: int = 0, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._make_app = make_app
        self._ssl_context = ssl_context
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: Thread | None = None
        self.port = port

    def start(self) -> None:
        """Start serving.

        :raises PortInUseError: if the port is taken.
        """
        started: Future[int] = Future()
        self._thread = Thread(target=lambda: asyncio.run(self._serve(started)), name="emulator", daemon=True)
        self._thread.start()
        self.port = started.result()

    def stop(self) -> None:
        """Stop serving. Connections that are still open are closed."""
        loop, stop, thread = self._loop, self._stop, self._thread
        if loop is None or stop is None or thread is None:
            return
        self._loop = self._stop = self._thread = None
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        thread.join()

    async def _serve(self, started: Future[int]) -> None:
        runner = web.AppRunner(self._make_app(), access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        try:
            await runner.setup()
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            started.set_result(await self._listen(runner))
        except BaseException as error:
            await runner.cleanup()
            started.set_exception(error)
            return
        try:
            await self._stop.wait()
        finally:
            await _close(runner)

    async def _listen(self, runner: web.AppRunner) -> int:
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._ssl_context).start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUseError(error.errno, f"port {self.port} is in use") from None
            raise
        port: int = runner.addresses[0][1]
        # Some clients try ::1 first for "localhost"; those that get no answer there go on to 127.0.0.1.
        with suppress(OSError):
            await web.TCPSite(runner, "::1", port, ssl_context=self._ssl_context).start()
        return port
