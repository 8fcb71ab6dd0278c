"""Waiting on an event loop, asyncio's or trio's, for an acquisition that threads and other loops wait for too.

A caller who is cancelled leaves the acquisition alone, and a loop that is closed while it waits does not disturb
the thread that ends the acquisition.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any

from .._tokens.in_flight import InFlight


async def wait(in_flight: InFlight) -> Any:
    """Wait until the acquisition has ended, whatever the event loop, and return or raise the outcome."""
    wait_once = _wait_on_trio if _is_on_trio() else _wait_on_asyncio
    while not in_flight.is_done():
        await wait_once(in_flight)
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


async def _wait_on_asyncio(in_flight: InFlight) -> None:
    """Wait until the acquisition has ended, or is to be looked at again."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()

    def wake() -> None:
        # The loop may have been closed since.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(event.set)

    in_flight.subscribe(wake)
    # Not asyncio.wait_for: up to Python 3.11 it loses a cancellation that comes as the event is set.
    timer = loop.call_later(in_flight.seconds_to_wait(), event.set)
    try:
        if not in_flight.is_done():
            await event.wait()
    finally:
        timer.cancel()
        in_flight.unsubscribe(wake)


async def _wait_on_trio(in_flight: InFlight) -> None:
    """As ``_wait_on_asyncio``."""
    import trio

    token = trio.lowlevel.current_trio_token()
    event = trio.Event()

    def wake() -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(event.set)

    in_flight.subscribe(wake)
    try:
        with trio.move_on_after(in_flight.seconds_to_wait()):
            if not in_flight.is_done():
                await event.wait()
    finally:
        in_flight.unsubscribe(wake)
