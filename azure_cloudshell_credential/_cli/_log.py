"""Showing what a server logs on stderr: a line for each request, and warnings."""

from __future__ import annotations

import logging


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """A warning stands among lines of other programs, and says whose it is."""
        if record.levelno < logging.WARNING:
            return super().format(record)
        return f"azure-cloudshell: {' '.join(record.getMessage().split())}"


def log_to_stderr(name: str, level: str = "INFO") -> None:
    """Show what a logger of this package says at this level and above, and warnings of its others."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.getLogger(__name__.partition(".")[0]).addHandler(handler)
    logging.getLogger(name).setLevel(level)
