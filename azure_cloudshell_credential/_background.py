"""Work that can be abandoned: it runs in a thread of its own, which keeps neither its caller nor the process waiting.

Executors will not do: the interpreter, and ``asyncio.run``, wait for their threads on the way out.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def start(work: Callable[[], T]) -> Future[T]:
    """Start work in a daemon thread, in a copy of the caller's context.

    :return: what will come of it; nobody needs to wait for it.
    """
    future: Future[T] = Future()
    context = copy_context()

    def run() -> None:
        try:
            result = context.run(work)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    Thread(target=run, name="azure-cloudshell-credential", daemon=True).start()
    return future
