"""Threads, event loops and forked workers on short-lived tokens, while the endpoint fails at random.

``make soak`` runs it for minutes; ``python -m tests.soak --seconds 36000`` for as long as you like. It counts what was
handed out, what should not have been, and what the process holds on to.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import CloudShellCredential, _cache
from azure_cloudshell_credential._protocol import claims_of
from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator, ScriptedReply, faults

RESOURCES = ("https://management.azure.com", "https://vault.azure.net", "https://storage.azure.com")
LIFETIME = 4
SLOW = faults.hang(0.2)
FAULTS = (
    faults.portal_timeout(),
    faults.server_error(500),
    faults.server_error(429, 0.01),
    faults.drop(),
    faults.garbage(),
    faults.expired_token(),
    faults.wrong_resource("https://graph.microsoft.com/"),
    SLOW,
)
PER_LIFETIME = "requests that brought a token, per resource, credential and lifetime"
MOST_PER_LIFETIME = 1.6
OPTIONS: dict[str, Any] = {"retry_backoff_factor": 0.01, "timeout": 5}


class Soak:
    """One run."""

    def __init__(self, shell: CloudShellEmulator, seconds: float) -> None:
        self.shell = shell
        self.until = time.monotonic() + seconds
        self.counts: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self.faults: list[ScriptedReply] = []

    def is_over(self) -> bool:
        return time.monotonic() > self.until

    def judge(self, resource: str, token: str) -> None:
        claims = claims_of(token)
        self.counts["tokens"] += 1
        self.counts["expired tokens"] += int(claims["exp"]) <= time.time() - 0.05
        self.counts["tokens for another resource"] += claims["aud"].rstrip("/") not in (
            resource,
            "https://management.core.windows.net" if resource == RESOURCES[0] else resource,
        )

    def failed(self, error: Exception) -> None:
        if isinstance(error, CredentialUnavailableError):
            self.counts["failures told"] += 1
        else:
            self.unexpected.append(repr(error))

    def threads(self, credential: CloudShellCredential) -> None:
        while not self.is_over():
            resource = random.choice(RESOURCES)
            try:
                self.judge(resource, credential.get_token(f"{resource}/.default").token)
            except Exception as error:
                self.failed(error)
            time.sleep(random.random() / 50)

    def loops(self, credential: AsyncCloudShellCredential) -> None:
        async def one() -> None:
            resource = random.choice(RESOURCES)
            try:
                self.judge(resource, (await credential.get_token(f"{resource}/.default")).token)
            except Exception as error:
                self.failed(error)

        async def some() -> None:
            tasks = [asyncio.create_task(one()) for _ in range(20)]
            await asyncio.sleep(random.random() / 20)
            random.choice(tasks).cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        while not self.is_over():
            asyncio.run(some())

    def workers(self, credential: CloudShellCredential) -> None:
        """Fork from a process with flights under way; each child gets a token of its own."""
        while not self.is_over():
            self.counts["forks"] += 1
            child = os.fork()
            if child == 0:
                status = 3
                try:
                    resource = random.choice(RESOURCES)
                    claims = claims_of(credential.get_token(f"{resource}/.default").token)
                    status = 0 if claims["exp"] > time.time() - 0.05 else 4
                except CredentialUnavailableError:
                    status = 0
                finally:
                    os._exit(status)
            _, status = os.waitpid(child, 0)
            if status != 0:
                self.unexpected.append(f"a forked worker ended with {os.waitstatus_to_exitcode(status)}")
            time.sleep(0.2)

    def endpoint(self) -> None:
        while not self.is_over():
            time.sleep(random.random() / 5)
            if random.random() < 0.5:
                self.faults.append(random.choice(FAULTS))
                self.shell.script(self.faults[-1])


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_kilobytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def run(seconds: float) -> tuple[dict[str, Any], list[str]]:
    """Run it.

    :return: what was counted, and what is wrong with it.
    """
    # Silence after a time-out would make the run idle for most of its time.
    _cache.HOLD_OFF = 1
    # Forked workers share the cache of none, so their requests are counted at an endpoint of their own.
    with CloudShellEmulator(lifetime=LIFETIME) as shell, CloudShellEmulator(lifetime=LIFETIME) as shell_of_workers:
        soak = Soak(shell, seconds)
        sync = CloudShellCredential(endpoint=shell.endpoint, **OPTIONS)
        asynchronous = AsyncCloudShellCredential(endpoint=shell.endpoint, **OPTIONS)
        jobs = [threading.Thread(target=soak.threads, args=(sync,)) for _ in range(8)]
        jobs += [threading.Thread(target=soak.loops, args=(asynchronous,)) for _ in range(2)]
        jobs += [threading.Thread(target=soak.endpoint)]
        of_workers = CloudShellCredential(endpoint=shell_of_workers.endpoint, **OPTIONS)
        jobs += [threading.Thread(target=soak.workers, args=(of_workers,))]
        for job in jobs:
            job.start()
        time.sleep(min(5.0, seconds / 3))
        gc.collect()
        files, memory = open_files(), resident_kilobytes()
        for job in jobs:
            job.join()
        gc.collect()
        # A slow reply brings a token all the same; what met another fault is asked for again.
        met = soak.faults[: len(soak.faults) - len(shell._script)]
        in_vain = sum(fault is not SLOW for fault in met)
        # Two credentials, each asking for each resource.
        lifetimes = seconds / LIFETIME * len(RESOURCES) * 2
        counts: dict[str, Any] = {
            **soak.counts,
            "seconds": seconds,
            "requests": len(shell.requests),
            "faults met": len(met),
            PER_LIFETIME: round((len(shell.requests) - in_vain) / lifetimes, 2),
            "most requests at once": shell.most_at_once,
            "open files grown by": open_files() - files,
            "kilobytes grown by": resident_kilobytes() - memory,
        }
    wrong = [*soak.unexpected[:10]]
    never = ("expired tokens", "tokens for another resource")
    wrong += [f"{soak.counts[name]} {name}" for name in never if soak.counts[name]]
    if counts["most requests at once"] > 1:
        wrong.append("two requests were at the endpoint at once")
    if counts[PER_LIFETIME] > MOST_PER_LIFETIME:
        wrong.append("more requests than tokens that expire call for")
    if counts["open files grown by"] > 20:
        wrong.append("open files grow")
    if counts["kilobytes grown by"] > 50_000 + seconds * 50:
        wrong.append("memory grows")
    return counts, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    counts, wrong = run(parser.parse_args().seconds)
    for name, count in counts.items():
        print(f"{count:>12}  {name}")
    print("\n".join(wrong) or "nothing wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
