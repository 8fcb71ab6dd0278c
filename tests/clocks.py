"""Clocks that a test moves, for ``clock.current``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from azure_cloudshell_credential._endpoint import clock


class StoppedClock:
    """Both clocks, stopped."""

    def __init__(self, mocker: Any) -> None:
        self.wall = 1_800_000_000.0
        self.ticks = 500.0
        mocker.patch.object(clock, "current", self)

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.ticks

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.ticks += seconds


class ShiftedClock(StoppedClock):
    """Both clocks, running, ahead of the real ones by what the test says. The emulator follows the wall clock."""

    def __init__(self, mocker: Any) -> None:
        super().__init__(mocker)
        self.wall = self.ticks = 0.0
        mocker.patch("azure_cloudshell_credential.emulator._issuer.time", self.time)

    def time(self) -> float:
        return time.time() + self.wall

    def monotonic(self) -> float:
        return time.monotonic() + self.ticks

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def advance_to(self, wall: float) -> None:
        self.advance(wall - self.time())


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
