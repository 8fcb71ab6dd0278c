"""Callers of every kind on short-lived tokens, who go away at random, while the endpoint fails at random.

``make soak`` runs it for ten minutes. One process runs the endpoint; its children run callers: threads, event loops of
asyncio and trio whose tasks are cancelled after a random number of steps or whose loops are closed halfway, a main
thread interrupted by a few signals a second, forks, synchronous calls on the threads of event loops, finalizers and
signal handlers that ask for tokens; and gevent, eventlet and uvloop in children of their own. All the while a caller
who has just arrived asks for a token and must not wait longer than the endpoint takes, plus a second.

One case is known and given up: where the garbage collector runs a finalizer inside threading's own lock, as it starts
or ends a thread, the finalizer waits out its budget there, and no thread of the process starts meanwhile. Whoever
arrives then is served, or told that its thread has not been run, when that budget is over. Two in a thousand newcomers
may meet it, among finalizers by the thousand.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential._endpoint.token import claims_of
from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential

RESOURCES = ("https://management.azure.com", "https://vault.azure.net", "https://storage.azure.com")
LIFETIME = 3
MAX_LATENCY = 0.03
SLOW = 0.1
MARGIN = 1.0
"""Seconds that a caller who has just arrived may wait beyond what the endpoint takes."""

LIMIT = 6 * (MAX_LATENCY + SLOW)
"""Seconds that the endpoint takes for what is there already: one request for each resource and credential."""

SIGNAL_PAUSE = (0.1, 0.6)
"""Seconds between two signals: nobody presses Ctrl-C more often."""

OPTIONS: dict[str, Any] = {"retry_backoff_factor": 0.01, "timeout": 2.0}
KINDS = ("callers", "gevent", "eventlet", "uvloop")
# Before anything imports what they replace.
PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}
CHILD = "import json, tests.soak; print(json.dumps(tests.soak.callers({kind!r}, {seconds})))"


class Interrupted(Exception):
    """What a signal handler raises."""


class Callers:
    """The callers of one process."""

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self.counts: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self.slowest = 0.0
        self.sync = CloudShellCredential(**OPTIONS)
        self.asynchronous = AsyncCloudShellCredential(**OPTIONS)

    def is_over(self) -> bool:
        return time.monotonic() > self.until

    def scope(self) -> tuple[str, str]:
        resource = random.choice(RESOURCES)
        return resource, f"{resource}/.default"

    def judge(self, resource: str, token: str, since: float) -> None:
        """Count a token.

        :param since: when it was asked for. It may expire on the way from there to here, where a handler can intervene.
        """
        claims = claims_of(token)
        self.counts["tokens"] += 1
        self.counts["expired tokens"] += int(str(claims["exp"])) <= since
        expected = {resource, "https://management.core.windows.net" if resource == RESOURCES[0] else resource}
        self.counts["tokens for another resource"] += str(claims["aud"]).rstrip("/") not in expected

    def get(self) -> None:
        resource, scope = self.scope()
        try:
            since = time.time()
            self.judge(resource, self.sync.get_token(scope).token, since)
        except CredentialUnavailableError:
            self.counts["failures told"] += 1
        except Interrupted:
            raise
        except Exception as error:
            self.unexpected.append(f"{type(error).__name__}: {error}")

    async def get_async(self) -> None:
        resource, scope = self.scope()
        try:
            since = time.time()
            self.judge(resource, (await self.asynchronous.get_token(scope)).token, since)
        except CredentialUnavailableError:
            self.counts["failures told"] += 1
        except Exception as error:
            self.unexpected.append(f"{type(error).__name__}: {error}")

    def threads(self) -> None:
        while not self.is_over():
            self.get()
            time.sleep(random.random() / 50)

    def renewing(self) -> None:
        """New credentials, whose caches are empty: nobody can live off a cache for long."""
        while not self.is_over():
            time.sleep(random.random() / 10)
            if random.random() < 0.5:
                self.sync = CloudShellCredential(**OPTIONS)
            else:
                self.asynchronous = AsyncCloudShellCredential(**OPTIONS)

    def loops(self) -> None:
        """Event loops whose tasks are cancelled, that are closed halfway, and on whose thread synchronous code runs."""

        async def some() -> None:
            tasks = [asyncio.ensure_future(self.get_async()) for _ in range(random.randint(1, 20))]
            for _ in range(random.randint(0, 6)):
                await asyncio.sleep(0)
            if random.random() < 0.3:
                self.get()
            for task in tasks:
                if random.random() < 0.3:
                    task.cancel()
            if random.random() < 0.5:
                await asyncio.wait(tasks, timeout=random.random() / 10)

        while not self.is_over():
            self.counts["event loops"] += 1
            loop = asyncio.new_event_loop()
            # Whatever is left when the loop is closed is what this is about.
            loop.set_exception_handler(lambda *_: None)
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(some())
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            loop.close()

    def trio_runs(self) -> None:
        import trio

        async def some() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(random.randint(1, 10)):
                    nursery.start_soon(self.get_async)
                with trio.move_on_after(random.random() / 20):
                    await self.get_async()
                if random.random() < 0.5:
                    nursery.cancel_scope.cancel()

        while not self.is_over():
            self.counts["trio runs"] += 1
            trio.run(some)

    def forks(self) -> None:
        while not self.is_over():
            self.counts["forks"] += 1
            child = os.fork()
            if child == 0:
                status = 3
                # Not faulthandler's timer: after a fork it waits for the parent's, which has no thread here.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(20)
                try:
                    self.unexpected.clear()
                    self.get()
                    status = 0 if not self.unexpected else 4
                finally:
                    os._exit(status)
            _, status = os.waitpid(child, 0)
            if status != 0:
                self.unexpected.append(f"a forked worker ended with {os.waitstatus_to_exitcode(status)}")
            time.sleep(0.1)

    def finalizers(self) -> None:
        """Objects that ask for a token when the garbage collector, on whatever thread, gets to them."""
        callers = self

        class Uploads:
            def __init__(self) -> None:
                self.itself = self

            def __del__(self) -> None:
                callers.counts["finalizers"] += 1
                callers.get()

        while not self.is_over():
            Uploads()
            gc.set_threshold(random.choice((10, 100, 700)))
            time.sleep(random.random() / 20)
        gc.set_threshold(700)

    def newcomer(self) -> None:
        """Somebody who arrives now: told why not, or served, in the time that the endpoint takes."""
        while not self.is_over():
            time.sleep(random.random() / 5)
            resource, scope = self.scope()
            credential = random.choice((self.sync, CloudShellCredential(**OPTIONS)))
            start, since = time.monotonic(), time.time()
            try:
                self.judge(resource, credential.get_token(scope).token, since)
            except CredentialUnavailableError:
                self.counts["newcomers told why not"] += 1
            elapsed = time.monotonic() - start
            self.counts["newcomers"] += 1
            self.counts["slow newcomers"] += elapsed > MARGIN + LIMIT
            self.slowest = max(self.slowest, elapsed)

    def signals(self) -> None:
        """The main thread, interrupted at random moments by a handler that raises, or asks for a token itself.

        A few times a second: what is promised is that a user's Ctrl-C harms nobody.
        """

        def handle(*_: object) -> None:
            if self.is_over():
                return
            self.counts["signals"] += 1
            signal.setitimer(signal.ITIMER_REAL, random.uniform(*SIGNAL_PAUSE))
            if random.random() < 0.5:
                raise Interrupted
            self.get()

        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, SIGNAL_PAUSE[0])
        while not self.is_over():
            # Two signals are never so close that the second would come before this is entered again.
            with suppress(Interrupted):
                while not self.is_over():
                    self.get()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)

    def run(self, *jobs: Callable[[], None], main: Callable[[], None]) -> dict[str, Any]:
        # What is imported with the first request: an import that a handler's exception interrupts can leave the import
        # lock of the interpreter taken, whatever it imports.
        self.get()
        asyncio.run(self.get_async())
        threads = [threading.Thread(target=job) for job in jobs]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        files, memory = open_files(), resident_kilobytes()
        main()
        for thread in threads:
            thread.join(30)
            if thread.is_alive():
                self.unexpected.append("a caller never came back")
        deadline = time.monotonic() + OPTIONS["timeout"] + 1
        while (left := acquisitions()) and time.monotonic() < deadline:
            time.sleep(0.05)
        if left:
            self.unexpected.append(f"{left} threads are left after the last deadline")
        self.get()
        gc.collect()
        return {
            **self.counts,
            "slowest newcomer": round(self.slowest, 2),
            "open files grown by": open_files() - files,
            "kilobytes grown by": resident_kilobytes() - memory,
            "unexpected": self.unexpected[:5],
        }


def acquisitions() -> int:
    return sum(thread.name == "azure-cloudshell-credential" for thread in threading.enumerate())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_kilobytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def callers(kind: str, seconds: float) -> dict[str, Any]:
    """Run the callers of one kind in this process."""
    # Whoever hangs says where.
    faulthandler.dump_traceback_later(seconds + 40, exit=True)
    here = Callers(seconds)
    if kind == "callers":
        jobs = [here.threads] * 4 + [here.loops] * 2
        jobs += [here.trio_runs, here.forks, here.finalizers, here.renewing, here.newcomer]
        return here.run(*jobs, main=here.signals)
    if kind == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        return here.run(here.loops, here.renewing, here.newcomer, main=here.loops)
    # Their threads are greenlets.
    return here.run(*[here.threads] * 8, here.renewing, here.newcomer, main=here.threads)


class Endpoint:
    """The endpoint's side: random latency and faults."""

    def __init__(self, seconds: float) -> None:
        from azure_cloudshell_credential.emulator import CloudShellEmulator

        self.shells = {kind: CloudShellEmulator(lifetime=LIFETIME) for kind in KINDS}
        self.until = time.monotonic() + seconds

    def trouble(self) -> None:
        from azure_cloudshell_credential.emulator import faults

        choice = (
            faults.portal_timeout(),
            faults.server_error(500),
            faults.server_error(429, 0.01),
            faults.drop(),
            faults.garbage(),
            faults.expired_token(),
            faults.wrong_resource("https://graph.microsoft.com/"),
            faults.hang(SLOW),
        )
        while time.monotonic() < self.until:
            time.sleep(random.random() / 5)
            for shell in self.shells.values():
                shell.latency = random.random() * MAX_LATENCY
                if random.random() < 0.4:
                    shell.script(random.choice(choice))


def run(seconds: float) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Run all of it.

    :return: what was counted in each process, and what is wrong with it.
    """
    from .command import without_coverage

    endpoint = Endpoint(seconds)
    wrong: list[str] = []
    found: dict[str, dict[str, Any]] = {}
    for shell in endpoint.shells.values():
        shell.start()
    # coverage has a lock of its own, which a forked child can find taken by a thread that it does not have.
    unmeasured = without_coverage()
    trouble = threading.Thread(target=endpoint.trouble)
    trouble.start()
    processes = {
        kind: subprocess.Popen(
            [
                sys.executable,
                "-W",
                "ignore",
                "-c",
                f"{PATCHES.get(kind, 'pass')}; {CHILD.format(kind=kind, seconds=seconds)}",
            ],
            env={**unmeasured, **shell.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for kind, shell in endpoint.shells.items()
    }
    for kind, process in processes.items():
        try:
            output, errors = process.communicate(timeout=seconds + 80)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            errors = f"did not end; {errors}"
        if process.returncode != 0:
            wrong.append(f"{kind}: ended with {process.returncode}: {errors[-6000:]}")
            continue
        counts = json.loads(output.splitlines()[-1])
        # Forked workers are other processes: what they send may come beside what their parent sends.
        counts["most requests at once"] = endpoint.shells[kind].max_concurrent_requests
        found[kind] = counts
        wrong += [f"{kind}: {text}" for text in judge(kind, counts, seconds)]
    trouble.join()
    for shell in endpoint.shells.values():
        shell.stop()
    return found, wrong


def judge(kind: str, counts: dict[str, Any], seconds: float) -> list[str]:
    wrong = list(counts["unexpected"])
    wrong += [f"{counts[name]} {name}" for name in ("expired tokens", "tokens for another resource") if counts[name]]
    if counts["most requests at once"] > (2 if kind == "callers" else 1):
        wrong.append("two requests of a process were at the endpoint at once")
    given_up = max(1, 0.002 * counts["newcomers"]) if kind == "callers" else 0
    slowest, longest = counts["slowest newcomer"], OPTIONS["timeout"] + MARGIN + LIMIT
    if counts["slow newcomers"] > given_up or slowest > longest:
        wrong.append(
            f"{counts['slow newcomers']} of {counts['newcomers']} newcomers waited too long, up to {slowest} s"
        )
    if counts["open files grown by"] > 20:
        wrong.append("open files grow")
    if counts["kilobytes grown by"] > 50_000 + seconds * 50:
        wrong.append("memory grows")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    found, wrong = run(parser.parse_args().seconds)
    for kind, counts in found.items():
        print(kind)
        for name, count in counts.items():
            print(f"{count!s:>12}  {name}")
    print("\n".join(wrong) or "nothing wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
