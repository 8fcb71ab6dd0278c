"""Ratios, measured side by side in one run: ``make bench``.

Each row compares two or more things that are measured in turn, again and again, so that a machine that slows down slows
all of them; what is compared are medians, and the spread is the ratio of the quartiles around them. A row passes if it
reaches its bar. Absolute times depend on the machine and are not written down.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import http.client
import logging
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ChainedTokenCredential, ManagedIdentityCredential
from azure.identity.aio import ManagedIdentityCredential as AsyncManagedIdentityCredential

import azure_cloudshell_credential
from azure_cloudshell_credential import CloudShellCredential, _cache, _protocol
from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator, faults

from .chart import write_chart

SCOPE = "https://management.azure.com/.default"
INVERTED = "azure-identity's time to ours"
HERE = Path(__file__).parent
RECIPE = """response=$(curl $MSI_ENDPOINT --data "resource=https://management.azure.com/" -H Metadata:true -s)
echo $response | $PYTHON -c 'import sys, json; print (json.load(sys.stdin)["access_token"])'"""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    result: str
    bar: str
    passed: bool | None
    share: float | None = None
    """For the chart: what we take, as a share of what we are compared with."""

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


def ratio(ours: list[float], theirs: list[float]) -> tuple[float, str]:
    """Ours to theirs, by medians, and the spread of it."""
    value = statistics.median(ours) / statistics.median(theirs)
    each = sorted(one / other for one, other in zip(ours, theirs, strict=True))
    return value, f"{value:.2f} ({each[len(each) // 4]:.2f} to {each[-len(each) // 4]:.2f})"


def repeated(work: Callable[[], Any], times: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(times):
            work()

    return run


def process(*arguments: str) -> Callable[[], Any]:
    return lambda: subprocess.run(arguments, check=True, capture_output=True)


def program(code: str) -> Callable[[], Any]:
    return process(sys.executable, "-c", code)


def cached(rounds: int) -> list[Row]:
    """A token that is in memory."""
    rows = []
    theirs = ManagedIdentityCredential()
    ours = CloudShellCredential()
    tokens: dict[tuple[str, ...], Any] = {
        (SCOPE,): (ours.get_token(SCOPE), time.time() + 3000, time.monotonic() + 3000)
    }

    def floor(*scopes: str, claims: str | None = None, tenant_id: str | None = None, **kwargs: Any) -> AccessToken:
        token, until, until_monotonic = tokens[scopes]
        if time.time() < until and time.monotonic() < until_monotonic:
            return AccessToken(token.token, token.expires_on)
        raise AssertionError

    for method in ("get_token", "get_token_info"):
        mine, other = getattr(ours, method), getattr(theirs, method)
        other(SCOPE)
        ours_s, theirs_s, floor_s = interleaved(
            rounds,
            repeated(partial(mine, SCOPE), 2000),
            repeated(partial(other, SCOPE), 2000),
            repeated(partial(floor, SCOPE), 2000),
        )
        value, spread = ratio(theirs_s, ours_s)
        rows.append(Row(f"cached {method}: {INVERTED}", spread, "at least 8", value >= 8, 1 / value))
        value, spread = ratio(ours_s, floor_s)
        rows.append(Row(f"cached {method}: ours to the floor", spread, "at most 2", value <= 2))

    def throughput(threads: int) -> float:
        calls = 40_000 // threads
        with ThreadPoolExecutor(threads) as pool:
            start = time.perf_counter()
            list(pool.map(lambda _: repeated(lambda: ours.get_token(SCOPE), calls)(), range(threads)))
            return 40_000 / (time.perf_counter() - start)

    by_threads: dict[int, list[float]] = {1: [], 4: [], 32: []}
    for _ in range(rounds):
        for threads, seen in by_threads.items():
            seen.append(throughput(threads))
    value, spread = ratio(by_threads[32], by_threads[1])
    rows.append(Row("cached get_token: throughput of 32 threads to 1", spread, "at least 0.8", value >= 0.8))
    theirs.close()
    return rows


def processes(rounds: int) -> list[Row]:
    """What starts a process."""
    rows = []
    first = "from {} import {} as C; C().get_token('https://management.azure.com/.default')"
    ours_s, theirs_s = interleaved(
        rounds,
        program(first.format("azure_cloudshell_credential", "CloudShellCredential")),
        program(first.format("azure.identity", "ManagedIdentityCredential")),
    )
    value, spread = ratio(ours_s, theirs_s)
    rows.append(Row("first token in a process: ours to azure-identity's", spread, "at most 0.6", value <= 0.6, value))

    code = (
        "import azure.mgmt.compute, time; start = time.perf_counter();"
        "from azure_cloudshell_credential import CloudShellCredential; print(time.perf_counter() - start)"
    )
    added = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout) * 1000
        for _ in range(rounds)
    ]
    value = statistics.median(added)
    rows.append(Row("import, after azure.mgmt.compute", f"{value:.1f} ms", "under 5 ms", value < 5))

    command = shutil.which("azure-cloudshell") or "azure-cloudshell"
    os.environ["PYTHON"] = sys.executable
    if shutil.which("curl"):
        ours_s, theirs_s = interleaved(rounds, process(command, "token"), process("bash", "-c", RECIPE))
        value, spread = ratio(ours_s, theirs_s)
        what = "azure-cloudshell token to the documented recipe with curl"
        rows.append(Row(what, spread, "at most 1.5", value <= 1.5, value))
    if shutil.which("az"):
        ours_s, theirs_s = interleaved(rounds, process(command, "token"), process("az", "account", "show"))
        value, spread = ratio(ours_s, theirs_s)
        rows.append(Row("azure-cloudshell token to az account show", spread, "at most 0.2", value <= 0.2, value))
    else:
        rows.append(Row("azure-cloudshell token to az account show", "az is not installed", "at most 0.2", None))
    return rows


def uncached(rounds: int, shell: CloudShellEmulator) -> list[Row]:
    """A request to the endpoint, everything imported and warm."""
    form = urlencode({"resource": "https://management.azure.com"})
    headers = {"Metadata": "true", "Content-Type": "application/x-www-form-urlencoded"}
    ours = CloudShellCredential()
    theirs = ManagedIdentityCredential()

    def bare() -> None:
        connection = http.client.HTTPConnection("localhost", shell.port)
        connection.request("POST", "/oauth2/token", form, headers)
        connection.getresponse().read()
        connection.close()

    def ask_ours() -> None:
        _cache.forget_all_tokens()
        ours.get_token(SCOPE)

    def ask_theirs() -> None:
        # A claims challenge makes it ask again, without the claims, over the connection that it keeps.
        theirs.get_token(SCOPE, claims="{}")

    for work in (bare, ask_ours, ask_theirs):
        work()
    ours_s, theirs_s, bare_s = interleaved(rounds * 10, ask_ours, ask_theirs, bare)
    theirs.close()
    value, spread = ratio(ours_s, theirs_s)
    rows = [Row("uncached round trip: ours to azure-identity's", spread, "at most 1", value <= 1, value)]
    rows.append(Row("uncached round trip: ours to bare http.client", ratio(ours_s, bare_s)[1], "shown", None))
    return rows


def requests_made(shell: CloudShellEmulator) -> list[Row]:
    """How often the endpoint is asked by many callers at once."""
    rows = []

    def by_threads(credential: Any) -> int:
        shell.reset()
        shell.latency = 0.3
        with ThreadPoolExecutor(64) as pool:
            list(pool.map(lambda _: credential.get_token(SCOPE), range(64)))
        return len(shell.requests)

    def by_tasks(make: Any) -> int:
        async def main() -> None:
            async with make() as credential:
                await asyncio.gather(*(credential.get_token(SCOPE) for _ in range(1000)))

        shell.reset()
        shell.latency = 0.3
        asyncio.run(main())
        return len(shell.requests)

    ours, theirs = by_threads(CloudShellCredential()), by_threads(ManagedIdentityCredential())
    rows.append(Row("requests of 64 threads, no token yet", f"{ours} (azure-identity: {theirs})", "1", ours == 1))
    ours, theirs = by_tasks(AsyncCloudShellCredential), by_tasks(AsyncManagedIdentityCredential)
    rows.append(Row("requests of 1,000 tasks, no token yet", f"{ours} (azure-identity: {theirs})", "1", ours == 1))
    shell.reset()
    return rows


class Az:
    """The next credential of a chain."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken("az", 2**31)


def chains(shell: CloudShellEmulator) -> list[Row]:
    """What a chain does, and how long it takes, when Cloud Shell has no token."""

    def outcome(credential: Any) -> tuple[str, float]:
        start = time.perf_counter()
        try:
            ChainedTokenCredential(credential, Az()).get_token(SCOPE)
        except ClientAuthenticationError:
            return "stops", time.perf_counter() - start
        return "reaches az", time.perf_counter() - start

    rows = []
    for what, bar in (("refused", 0.5), ("audience denied", 0.5), ("hangs, bounded to 1 second", 1.5)):
        shell.reset()
        if what == "audience denied":
            shell.deny("https://management.azure.com/")
        elif what.startswith("hangs"):
            shell.script(*[faults.hang()] * 20)
        os.environ["MSI_ENDPOINT"] = "http://localhost:9/oauth2/token" if what == "refused" else shell.endpoint
        times = []
        for _ in range(1 if what != "audience denied" else 9):
            ours, seconds = outcome(CloudShellCredential(timeout=1))
            theirs, their_seconds = outcome(ManagedIdentityCredential(read_timeout=1))
            times.append(their_seconds / seconds)
        result = f"{ours}; azure-identity {theirs}, its time to ours {statistics.median(times):.1f}"
        rows.append(Row(f"a chain, endpoint {what}", result, "reaches az", ours == "reaches az" and seconds < bar))
    shell.reset()
    os.environ["MSI_ENDPOINT"] = shell.endpoint
    return rows


def cache_size(rounds: int) -> list[Row]:
    """What many resources cost."""

    def filled(count: int) -> tuple[_cache.TokenCache, list[tuple[str]]]:
        cache = _cache.TokenCache()
        scopes = [(f"https://resource-{index}.example/.default",) for index in range(count)]
        for index, scope in enumerate(scopes):
            flight = cache.claim(_protocol.scope_to_resource(scope), 30)[1]
            assert flight is not None
            cache.land(flight, _protocol.Token(f"{index}" * 300, int(time.time()) + 3600, None, None))
            held = flight.done.result()
            assert isinstance(held, _cache.Held)
            cache.remember(scope, held)
        return cache, scopes

    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = filled(1000)
    each = (tracemalloc.get_traced_memory()[0] - before) / len(kept[1])
    tracemalloc.stop()
    tokens = statistics.mean(len(f"{index}" * 300) for index in range(1000))
    rows = [
        Row(
            "memory per cached resource, at 1,000",
            f"{each / tokens:.1f} times its token",
            "at most 5",
            each < 5 * tokens,
        )
    ]
    caches = [filled(count) for count in (1, 100, 10_000)]

    def look_up(cache: _cache.TokenCache, scopes: list[tuple[str]]) -> Callable[[], None]:
        # A few out of many, as a program does: how many fit into the processor's caches is not our doing.
        some = (scopes[:: max(1, len(scopes) // 10)] * 2000)[:2000]

        def run() -> None:
            for scope in some:
                cache.fresh(scope)

        return run

    one, _, many = interleaved(rounds, *(look_up(*cache) for cache in caches))
    value, spread = ratio(many, one)
    rows.append(Row("lookup with 10,000 resources to one with 1", spread, "at most 2", value <= 2))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare, in one run.")
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    # As pip does when it installs a package; an editable one may never have been compiled.
    compileall.compile_dir(Path(azure_cloudshell_credential.__file__).parent, quiet=1)
    # azure-identity's chain warns of each failure that is measured.
    logging.disable()
    with CloudShellEmulator() as shell, shell.as_environment():
        rows = cached(rounds) + processes(rounds) + uncached(rounds, shell)
        rows += requests_made(shell) + chains(shell) + cache_size(rounds)
    assert threading.active_count() < 50
    widths = [max(len(getattr(row, name)) for row in rows) for name in ("what", "result", "bar")]
    lines = [
        f"{row.what:<{widths[0]}}  {row.result:<{widths[1]}}  {row.bar:<{widths[2]}}  {row.mark}".rstrip()
        for row in rows
    ]
    table = "\n".join(lines)
    print(table)
    (HERE / "results.txt").write_text(table + "\n", encoding="utf-8")
    # The chart shows shares of the other's time throughout.
    shares = [
        (row.what.replace(INVERTED, "ours to azure-identity's"), row.share) for row in rows if row.share is not None
    ]
    write_chart(HERE / "chart.svg", shares)
    return 1 if any(row.passed is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
