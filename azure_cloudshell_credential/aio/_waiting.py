"""Waiting on an event loop for a future that threads and other event loops wait for too."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from typing import Any


async def is_done_within(future: Future[Any], seconds: float | None) -> bool:
    """Wait until the future is done.

    Cancelling the caller leaves the future alone, unlike ``asyncio.wrap_future``; and an event loop that is closed
    while it waits does not disturb whoever completes the future.

    :param seconds: how long to wait at most; None: as long as it takes.
    :return: whether it is done.
    """
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def wake(_: Future[Any]) -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    future.add_done_callback(wake)
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(done.wait(), seconds)
    return future.done()
