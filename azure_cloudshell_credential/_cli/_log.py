"""Showing what a server logs, a line for each request, on stderr."""

from __future__ import annotations

import logging


def log_to_stderr(name: str, level: str = "INFO") -> None:
    """Show what a logger of this package says at this level and above, and warnings of its others."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.getLogger(__name__.partition(".")[0]).addHandler(handler)
    logging.getLogger(name).setLevel(level)
