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

from azure_cloudshell_credential import CloudShellCredential, _cache, _protocol

from .measuring import INVERTED, SCOPE, Row, interleaved, ratio, repeated

THREADS = (8, 32)
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
        rows.append(Row(f"cached {method}: {INVERTED}", spread, "at least 8", value >= 8, 1 / value))
        value, spread = ratio(ours_s, floor_s)
        rows.append(Row(f"cached {method}: ours to the floor", spread, "at most 2", value <= 2))
    rows += throughput(rounds, ours)
    theirs.close()
    return rows


def throughput(rounds: int, ours: CloudShellCredential) -> list[Row]:
    """The throughput of many threads to that of one.

    The interpreter takes some of it for passing its lock around, even from a function that does nothing. What our own
    code costs is what is missing beyond that.
    """
    works: dict[str, tuple[Work, int]] = {
        "cached get_token": (ours.get_token, 240_000),
        "cached get_token_info": (ours.get_token_info, 120_000),
        "nothing": (nothing, 720_000),
    }
    kept: dict[tuple[str, int], list[float]] = {(name, threads): [] for name in works for threads in THREADS}
    # Far more rounds than elsewhere: which thread runs when is chance.
    for _ in range(3 * rounds):
        for name, (work, calls) in works.items():
            alone = calls_per_second(work, 1, calls)
            for threads in THREADS:
                kept[name, threads].append(calls_per_second(work, threads, calls) / alone)
    rows = []
    for name in list(works)[:-1]:
        for threads in THREADS:
            mine, empty = kept[name, threads], kept["nothing", threads]
            value, spread = ratio(mine, empty)
            shares = f"{statistics.median(mine):.2f}; an empty function's {statistics.median(empty):.2f}"
            what = f"{name}: throughput of {threads} threads to 1"
            rows.append(Row(what, f"{shares}; ratio {spread}", "at least 0.95 of the empty function's", value >= 0.95))
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
        what = f"lookup with {size:,} resources to one with 1, ten in use"
        rows.append(Row(what, spread, "flat: at most 1.2", value <= 1.2))
    value, spread = ratio(many, floor_many)
    growth, floor_growth = ratio(many, one)[0], ratio(floor_many, floor_one)[0]
    result = f"{spread}; to one with 1: {growth:.2f}, the floor's {floor_growth:.2f}"
    rows.append(Row("lookup, 10,000 in use in random order: ours to the floor", result, "at most 2", value <= 2))
    return rows


def _scopes(index: int) -> tuple[str]:
    return (f"https://resource-{index}.example/.default",)


def _filled(count: int) -> tuple[Work, Work]:
    """Our lookup and the floor's, each among so many resources."""
    cache = _cache.TokenCache()
    tokens: dict[tuple[str, ...], AccessToken] = {}
    for index in range(count):
        scopes = _scopes(index)
        flight = cache.claim(_protocol.scope_to_resource(scopes), 30)[1]
        assert flight is not None
        cache.land(flight, _protocol.Token(f"{index}" * 300, int(time.time()) + 3600, None, None))
        held = flight.done.result()
        assert isinstance(held, _cache.Held)
        cache.remember(scopes, held)
        tokens[scopes] = AccessToken(f"{index}" * 300, int(time.time()) + 3600)
    floor = floor_of(tokens)
    return cache.fresh, lambda scopes: floor(*scopes)


def _some(count: int, most: int) -> list[tuple[str]]:
    """Ten thousand lookups of at most so many resources, in random order."""
    resources = [_scopes(index) for index in range(0, count, max(1, count // most))]
    some = (resources * 10_000)[:10_000]
    random.Random(0).shuffle(some)
    return some


def _walk(look_up: Work, some: Sequence[tuple[str]]) -> Callable[[], None]:
    def run() -> None:
        for scopes in some:
            look_up(scopes)

    return run
