"""What reaches the endpoint, and how a chain gets past it."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ChainedTokenCredential, ManagedIdentityCredential
from azure.identity.aio import ManagedIdentityCredential as AsyncManagedIdentityCredential

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator, faults

from .measuring import SCOPE, Row, interleaved, quartiles, ratio

RESOURCE = "https://management.azure.com"


def uncached(rounds: int, shell: CloudShellEmulator) -> list[Row]:
    """A request to the endpoint, everything imported and warm.

    Each time ours asks for a resource that it has not asked for yet. The emulator has issued all of them before, so
    that making a token is in nobody's time.
    """
    shell.audiences = None
    resources = [f"https://resource-{index}.example" for index in range(10 * rounds + 1)]
    scopes = [f"{resource}/.default" for resource in resources]
    ours = CloudShellCredential()
    theirs = ManagedIdentityCredential()
    for resource in (RESOURCE, *resources):
        _post(shell, resource)

    def ask_theirs() -> None:
        # A claims challenge makes it ask again, without the claims, over the connection that it keeps.
        theirs.get_token(SCOPE, claims="{}")

    ask_ours = _for_each(scopes, ours.get_token)
    works = (ask_ours, ask_theirs, lambda: _post(shell, RESOURCE))
    for work in works:
        work()
    ours_s, theirs_s, bare_s = interleaved(rounds * 10, *works)
    theirs.close()
    value, spread = ratio(ours_s, theirs_s)
    what, label = "uncached round trip: ours / azure-identity", ("A request to the endpoint", "azure-identity's time")
    rows = [Row(what, spread, "at most 1", value <= 1, value, label)]
    rows.append(asynchronous(rounds, scopes))
    rows.append(Row("uncached round trip: ours / bare http.client", ratio(ours_s, bare_s)[1], "shown", None))
    shell.reset()
    return rows


def _post(shell: CloudShellEmulator, resource: str) -> None:
    headers = {"Metadata": "true", "Content-Type": "application/x-www-form-urlencoded"}
    connection = http.client.HTTPConnection("localhost", shell.port)
    connection.request("POST", "/oauth2/token", urlencode({"resource": resource}), headers)
    connection.getresponse().read()
    connection.close()


def _for_each(scopes: list[str], ask: Callable[[str], object]) -> Callable[[], None]:
    """Ask for the next one at each call."""
    left: Iterator[str] = itertools.chain(scopes)
    return lambda: (ask(next(left)), None)[1]


def asynchronous(rounds: int, scopes: list[str]) -> Row:
    """The asynchronous credential beside the synchronous one, in a running event loop."""
    credential = AsyncCloudShellCredential()
    loop = asyncio.new_event_loop()
    ask_async = _for_each(scopes, lambda scope: loop.run_until_complete(credential.get_token(scope)))
    ask = _for_each(scopes, CloudShellCredential().get_token)
    for work in (ask_async, ask):
        work()
    value, spread = ratio(*interleaved(rounds * 10, ask_async, ask))
    loop.close()
    return Row("uncached round trip: asynchronous / synchronous", spread, "at most 1.3", value <= 1.3)


def requests_made(shell: CloudShellEmulator) -> list[Row]:
    """How often the endpoint is asked by many callers at once."""

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

    rows = []
    ours, theirs = by_threads(CloudShellCredential()), by_threads(ManagedIdentityCredential())
    rows.append(Row("requests of 64 threads, no token yet", f"{ours} (azure-identity: {theirs})", "1", ours == 1))
    ours, theirs = by_tasks(AsyncCloudShellCredential), by_tasks(AsyncManagedIdentityCredential)
    rows.append(Row("requests of 1,000 tasks, no token yet", f"{ours} (azure-identity: {theirs})", "1", ours == 1))
    shell.reset()
    return rows


class Az:
    """The next credential of a chain."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """A token at once, so that what is timed is the way to it."""
        return AccessToken("az", 2**31)


def chains(shell: CloudShellEmulator) -> list[Row]:
    """What a chain does, and how long it takes, when Cloud Shell has no token."""

    def outcomes(make: Any, **options: Any) -> tuple[bool, str]:
        reached, times = True, []
        for _ in range(5):
            start = time.perf_counter()
            try:
                ChainedTokenCredential(make(**options), Az()).get_token(SCOPE)
            except ClientAuthenticationError:
                reached = False
            times.append((time.perf_counter() - start) * 1000)
        low, high = quartiles(times)
        return reached, f"{statistics.median(times):,.1f} ms ({low:,.1f} to {high:,.1f})"

    rows = []
    for what in ("refused", "audience denied", "hangs, bounded to 1 second"):
        shell.reset()
        if what == "audience denied":
            shell.deny("https://management.azure.com/")
        elif what.startswith("hangs"):
            shell.script(*[faults.hang()] * 100)
        os.environ["MSI_ENDPOINT"] = "http://localhost:9/oauth2/token" if what == "refused" else shell.endpoint
        reached, taken = outcomes(CloudShellCredential, timeout=1)
        their_reached, their_taken = outcomes(ManagedIdentityCredential, read_timeout=1)
        theirs = "reaches it" if their_reached else "stops"
        result = f"{'after' if reached else 'stops after'} {taken}; azure-identity {theirs} after {their_taken}"
        rows.append(Row(f"a chain reaches az, endpoint {what}", result, "reached", reached))
    shell.reset()
    os.environ["MSI_ENDPOINT"] = shell.endpoint
    return rows
