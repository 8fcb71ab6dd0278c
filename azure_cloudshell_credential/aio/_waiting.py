"""Waiting on an event loop, asyncio's or trio's, for an acquisition that threads and other loops wait for too.

A caller who is cancelled leaves the acquisition alone, and a loop that is closed while it waits does not disturb
whoever ends the acquisition.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from .._in_flight import InFlight

WaitFor = Callable[[float], Awaitable[None]]


async def wait(in_flight: InFlight) -> Any:
    """Wait until the acquisition has ended, whatever the event loop, and return what came of it."""
    wait_for = (_subscribe_on_trio if _is_on_trio() else _subscribe_on_asyncio)(in_flight)
    while not in_flight.is_done():
        await wait_for(in_flight.seconds_to_wait())
    return in_flight.outcome()


def _is_on_trio() -> bool:
    # trio imports sniffio, and tells it which library runs: asyncio may be there as well, hosting trio as a guest.
    sniffio: Any = sys.modules.get("sniffio")
    if sniffio is None:
        return False
    try:
        return bool(sniffio.current_async_library() == "trio")
    except sniffio.AsyncLibraryNotFoundError:
        return False


def _subscribe_on_asyncio(in_flight: InFlight) -> WaitFor:
    """A function that waits so many seconds at most, or until the acquisition has ended."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()

    def wake() -> None:
        # The loop may have been closed since.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(event.set)

    async def wait_for(seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)

    in_flight.when_done(wake)
    return wait_for


def _subscribe_on_trio(in_flight: InFlight) -> WaitFor:
    """As :func:`_subscribe_on_asyncio`."""
    import trio

    token = trio.lowlevel.current_trio_token()
    event = trio.Event()

    def wake() -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(event.set)

    async def wait_for(seconds: float) -> None:
        with trio.move_on_after(seconds):
            await event.wait()

    in_flight.when_done(wake)
    return wait_for
