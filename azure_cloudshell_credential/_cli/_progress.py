"""A line on the terminal that says what is being waited for, and goes away again."""

from __future__ import annotations

import os
import sys


class Progress:
    """The line. On stderr, and only where that is a terminal; a context manager, which removes it at the end."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._is_terminal:
            # A line that is wider than the terminal would not go away.
            width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
            print(f"\r\x1b[K{text[: width if width > 0 else 79]}", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.show("")
