"""What the broker costs: a command's start, a cached answer, and memory."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import requests
from azure.core.credentials import AccessToken

from azure_cloudshell_credential.broker import CloudShellBroker
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .measuring import Row, interleaved, ratio, repeated

FORM = {"resource": "https://management.azure.com"}
REQUESTS = 100_000


class Given:
    """A credential that costs nothing."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken("x" * 1500, int(time.time()) + 86_400)


def answers(rounds: int, shell: CloudShellEmulator) -> list[Row]:
    """A cached answer of the broker, and one of the emulator, over a connection that is kept."""
    with CloudShellBroker(Given()) as broker, requests.Session() as session:
        session.trust_env = False
        session.headers["Metadata"] = "true"
        urls = (broker.environment["MSI_ENDPOINT"], shell.endpoint)
        works = [repeated(partial(session.post, url, FORM, timeout=10), 50) for url in urls]
        for work in works:
            work()
        value, spread = ratio(*interleaved(rounds, *works))
        rows = [Row("cached answer: broker / emulator", spread, "at most 2", value <= 2)]
        before = resident_kilobytes()
        for _ in range(REQUESTS):
            session.post(urls[0], FORM, timeout=10)
        grown = resident_kilobytes() - before
        result = f"{grown / 1024:+.1f} MB"
        rows.append(
            Row(f"memory after {REQUESTS:,} requests to the broker", result, "flat: under 5 MB", grown < 5 * 1024)
        )
    return rows


def resident_kilobytes() -> int:
    """The memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
