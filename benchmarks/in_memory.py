"""A token that is in memory: how fast, by how many threads, among how many others."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import Barrier, Thread
from typing import Any

from azure.core.credentials import AccessToken
from azure.identity import ManagedIdentityCredential

from azure_cloudshell_credential import CloudShellCredential

from .measuring import SCOPE, Row, interleaved, ratio, repeated

THREADS = 32
Work = Callable[..., object]


def floor_of(tokens: dict[tuple[str, ...], AccessToken]) -> Work:
    """What no cached ``get_token`` can do without: a dict lookup, an expiry check, and building the ``AccessToken``."""
    held = {scopes: (token, time.time() + 3000, time.monotonic() + 3000) for scopes, token in tokens.items()}

    def floor(*scopes: str, claims: str | None = None, tenant_id: str | None = None, **kwargs: Any) -> AccessToken:
        token, until, until_monotonic = held[scopes]
        if time.time() < until and time.monotonic() < until_monotonic:
            return AccessToken(token.token, token.expires_on)
        raise AssertionError

    return floor


def nothing(*scopes: str, claims: str | None = None, tenant_id: str | None = None, **kwargs: Any) -> None:
    """What a call alone costs."""


def cached(rounds: int) -> list[Row]:
    """The time of a call, and what is left of it among threads."""
    rows = []
    theirs = ManagedIdentityCredential()
    ours = CloudShellCredential()
    floor = floor_of({(SCOPE,): ours.get_token(SCOPE)})
    for method in ("get_token", "get_token_info"):
        mine, other = getattr(ours, method), getattr(theirs, method)
        other(SCOPE)
        works = (partial(work, SCOPE) for work in (mine, other, floor))
        ours_s, theirs_s, floor_s = interleaved(rounds, *(repeated(work, 2000) for work in works))
        value, spread = ratio(theirs_s, ours_s)
        what, label = f"cached {method}: azure-identity / ours", (f"Cached {method}", "azure-identity's time")
        rows.append(Row(what, spread, "at least 8", value >= 8, 1 / value, label))
        value, spread = ratio(ours_s, floor_s)
        bar = 1.0 if method == "get_token" else 1.5
        rows.append(Row(f"cached {method}: ours / the floor", spread, f"at most {bar:g}", value <= bar))
    rows += throughput(rounds, ours)
    theirs.close()
    return rows


def throughput(rounds: int, ours: CloudShellCredential) -> list[Row]:
    """The throughput of 32 threads to that of one.

    The interpreter takes some of it for passing its lock around, even from a function that does nothing; what our own
    code costs is what is missing beyond that. Which thread runs when, and on which core, is chance: hence many rounds,
    and the range in which the median lies with 95 % confidence in place of the spread.
    """
    works: list[Work] = [nothing, ours.get_token, ours.get_token_info]
    # A fifth of a second alone, so that each of 32 threads has to hand on the lock.
    calls = [round(max(calls_per_second(work, 1, 50_000) for _ in range(5)) / 5) for work in works]
    kept: list[list[float]] = [[] for _ in works]
    for _ in range(6 * rounds):
        for work, times, seen in zip(works, calls, kept, strict=True):
            alone = calls_per_second(work, 1, times)
            seen.append(calls_per_second(work, THREADS, times) / alone)
    rows = []
    for name, mine in zip(("get_token", "get_token_info"), kept[1:], strict=True):
        each = sorted(one / other for one, other in zip(mine, kept[0], strict=True))
        error = round(0.98 * len(each) ** 0.5)
        low, high = each[len(each) // 2 - error], each[len(each) // 2 + error]
        result = (
            f"{statistics.median(each):.2f} ({low:.2f} to {high:.2f}) of an empty function's; "
            f"by themselves {statistics.median(mine):.2f} and {statistics.median(kept[0]):.2f}"
        )
        what = f"cached {name}: throughput of {THREADS} threads / 1"
        rows.append(Row(what, result, "falls no further: up to 1 or more", high >= 1))
    return rows


def calls_per_second(work: Work, threads: int, calls: int) -> float:
    """What all threads together do, from the moment that they are let go."""
    gate = Barrier(threads + 1)
    ends = []

    def run() -> None:
        gate.wait()
        for _ in range(calls // threads):
            work(SCOPE)
        ends.append(time.perf_counter())

    crowd = [Thread(target=run) for _ in range(threads)]
    for thread in crowd:
        thread.start()
    start = time.perf_counter()
    gate.wait()
    for thread in crowd:
        thread.join()
    return calls / (max(ends) - start)


def cache_size(rounds: int) -> list[Row]:
    """What a lookup costs among more and more resources.

    A program that uses ten of them finds them as fast as one. One that uses thousands in random order waits for the
    processor's memory, as it does with any dict: hence the floor beside it.
    """
    sizes = (1, 100, 10_000)
    ours, floors = zip(*(_filled(size) for size in sizes), strict=True)
    ten = interleaved(rounds, *(_walk(work, _some(size, 10)) for work, size in zip(ours, sizes, strict=True)))
    all_of_them = [_some(size, size) for size in sizes]
    one, _, many, floor_one, _, floor_many = interleaved(
        rounds, *(_walk(work, some) for works in (ours, floors) for work, some in zip(works, all_of_them, strict=True))
    )
    rows = []
    for size, times in zip(sizes[1:], ten[1:], strict=True):
        value, spread = ratio(times, ten[0])
        what = f"lookup with {size:,} resources / with 1, ten in use"
        rows.append(Row(what, spread, "flat: at most 1.2", value <= 1.2))
    value, spread = ratio(many, floor_many)
    growth, floor_growth = ratio(many, one)[0], ratio(floor_many, floor_one)[0]
    result = f"{spread}; 10,000 / 1: {growth:.2f}, the floor's {floor_growth:.2f}"
    rows.append(Row("lookup, 10,000 in use in random order: ours / the floor", result, "at most 2", value <= 2))
    return rows


def _scopes(index: int) -> tuple[str]:
    return (f"https://resource-{index}.example/.default",)


def _filled(count: int) -> tuple[Work, Work]:
    """Our lookup and the floor's, each among so many resources. The emulator has to support any audience."""
    ours = CloudShellCredential()
    floor = floor_of({_scopes(index): ours.get_token(*_scopes(index)) for index in range(count)})
    return ours.get_token, floor


def _some(count: int, most: int) -> list[tuple[str]]:
    """Ten thousand lookups of at most so many resources, in random order."""
    resources = [_scopes(index) for index in range(0, count, max(1, count // most))]
    some = (resources * 10_000)[:10_000]
    random.Random(0).shuffle(some)
    return some


def _walk(look_up: Work, some: Sequence[tuple[str]]) -> Callable[[], None]:
    def run() -> None:
        for (scope,) in some:
            look_up(scope)

    return run
