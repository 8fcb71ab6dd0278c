"""Waiting on an event loop, asyncio's or trio's, for an acquisition that threads and other loops wait for too.

A caller who is cancelled leaves the acquisition alone, and a loop that is closed while it waits does not disturb
the thread that ends the acquisition.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack, suppress
from typing import Any

from .._tokens.in_flight import InFlight


async def wait(in_flight: InFlight) -> Any:
    """Wait until the acquisition has ended, whatever the event loop, and return or raise the outcome."""
    while not in_flight.is_done:
        seconds = in_flight.seconds_to_wait()
        with ExitStack() as stack:
            if _is_on_trio():
                import trio

                event: Any = trio.Event()
                call_soon: Any = trio.lowlevel.current_trio_token().run_sync_soon
                stack.enter_context(trio.move_on_after(seconds))
            else:
                # Not asyncio.wait_for: up to Python 3.11 it loses a cancellation that comes as the event is set.
                loop = asyncio.get_running_loop()
                event, call_soon = asyncio.Event(), loop.call_soon_threadsafe
                stack.callback(loop.call_later(seconds, event.set).cancel)

            def wake(event: Any = event, call_soon: Any = call_soon) -> None:
                # The loop may have been closed since.
                with suppress(RuntimeError):
                    call_soon(event.set)

            in_flight.wakes.add(wake)
            stack.callback(in_flight.wakes.discard, wake)
            if not in_flight.is_done:
                await event.wait()
    return in_flight.result()


def _is_on_trio() -> bool:
    # trio imports sniffio, and tells it which library runs: asyncio may be there as well, hosting trio as a guest.
    if "sniffio" not in sys.modules:
        return False
    # Not the one in sys.modules: another thread may be importing it.
    import sniffio

    return bool(sniffio.current_async_library() == "trio")
