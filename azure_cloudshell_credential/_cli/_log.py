"""Showing what a server logs, a line for each request, on stderr."""

from __future__ import annotations

import logging


def log_to_stderr(name: str, level: str = "INFO") -> None:
    """Show what a logger says at this level and above."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    logger.setLevel(level)
