"""Measuring in turn, and comparing round by round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

SCOPE = "https://management.azure.com/.default"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    result: str
    bar: str
    passed: bool | None
    """None where there is nothing to reach, or nothing to compare with."""

    share: float | None = None
    """For the chart: what we take, as a share of what we are compared with."""

    label: tuple[str, str] = ("", "")
    """For the chart: what was measured, and what it was compared with."""

    @property
    def mark(self) -> str:
        return "-" if self.passed is None else "pass" if self.passed else "MISS"


def interleaved(rounds: int, *works: Callable[[], Any]) -> list[list[float]]:
    """Seconds that each work took, in each round."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, seconds in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
    return times


def repeated(work: Callable[[], Any], times: int) -> Callable[[], None]:
    """The work, so often that it can be timed."""

    def run() -> None:
        for _ in range(times):
            work()

    return run


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, str]:
    """Ours to theirs: the median over the rounds, and written with its spread."""
    each = [one / other for one, other in zip(ours, theirs, strict=True)]
    low, high = quartiles(each)
    value = statistics.median(each)
    return value, f"{value:.2f} ({low:.2f} to {high:.2f})"


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The values that half of all lie between."""
    ordered = sorted(values)
    return ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]
