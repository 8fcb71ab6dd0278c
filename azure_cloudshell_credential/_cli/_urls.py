"""URLs of this machine, fit to be shown."""

from __future__ import annotations

from urllib.parse import urlsplit

from .._endpoint.environment import PATHS
from .._endpoint.text import quoted


def shown_url(url: str) -> str:
    """A URL of this machine, without the secret that a broker's has in its path, and without a password."""
    try:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        return "(not a URL)"
    path = parts.path if parts.path in (*PATHS, "/", "") else "/…"
    return quoted(f"{origin}{path}", 100)
