"""JSON that others wrote: a reply, the Azure CLI's profile, a variable, a request.

Whatever it holds (nesting without end, bytes that are not text, numbers of a million digits), the answer is a value or
None. Callers check what kind of value it is.
"""

from __future__ import annotations

import json
import os
import stat

MAX_FILE = 16 * 1024 * 1024
"""Bytes. A profile of the Azure CLI has less than 1 kB for each subscription."""

_BYTE_ORDER_MARK = "\ufeff"


def read_json(text: str | bytes) -> object:
    """The value that a text holds, None if it is not JSON.

    :param text: bytes are taken as UTF-8. A byte order mark in front, as in ``azureProfile.json``, is skipped.
    """
    try:
        # Not by the codec "utf-8-sig", whose first use imports a module, possibly while the process forks.
        decoded = text if isinstance(text, str) else text.decode()
        content: object = json.loads(decoded.removeprefix(_BYTE_ORDER_MARK))
    except (ValueError, RecursionError):
        return None
    return content


def read_json_file(path: str) -> object:
    """The value that a file holds, None if it cannot be read, is no ordinary file or is not JSON."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            content = file.read(MAX_FILE + 1)
    except (OSError, ValueError):
        return None
    return read_json(content) if len(content) <= MAX_FILE else None


def _open_without_waiting(path: str, flags: int) -> int:
    # A named pipe is otherwise opened when somebody writes to it.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
