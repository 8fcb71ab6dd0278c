"""JSON that others wrote: a reply, the Azure CLI's profile, a variable, a request.

Whatever it holds (nesting without end, bytes that are not text, numbers of a million digits), the answer is a value or
None. Callers check what kind of value it is.
"""

from __future__ import annotations

import json
import os

MAX_FILE = 16 * 1024 * 1024
"""Bytes that are read. A profile of the Azure CLI has less than 1 kB for each subscription."""

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
    """The value that a file holds, None if it cannot be read, or is not an ordinary file or not JSON."""
    try:
        # A named pipe would be opened only when somebody writes to it.
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            return read_json(file.read(MAX_FILE))
    except (OSError, ValueError):
        return None
