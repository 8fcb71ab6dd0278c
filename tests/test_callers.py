"""Callers: threads, tasks and event loops that share a credential, go away, raise, block or come back."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import pytest
import trio
from azure.core.credentials import SupportsTokenInfo, TokenCredential
from azure.core.credentials_async import AsyncSupportsTokenInfo, AsyncTokenCredential
from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator, faults

from .conftest import ARM, VAULT, in_threads


def test_they_are_what_azure_core_calls_a_credential() -> None:
    assert isinstance(CloudShellCredential(), TokenCredential)
    assert isinstance(CloudShellCredential(), SupportsTokenInfo)
    assert isinstance(AsyncCloudShellCredential(), AsyncTokenCredential)
    assert isinstance(AsyncCloudShellCredential(), AsyncSupportsTokenInfo)


def test_64_threads_on_a_cold_cache_make_one_request(shell: CloudShellEmulator) -> None:
    shell.latency = 0.1
    credential = CloudShellCredential(endpoint=shell.endpoint)
    assert len(set(in_threads(64, lambda _: credential.get_token(ARM)))) == 1
    assert len(shell.requests) == 1


def test_64_threads_on_a_hanging_endpoint_share_one_wait(shell: CloudShellEmulator) -> None:
    shell.script(*[faults.hang()] * 64)
    credential = CloudShellCredential(endpoint=shell.endpoint, timeout=0.5)
    start = time.monotonic()
    errors = in_threads(64, lambda _: credential.get_token(ARM))
    assert time.monotonic() - start < 2
    assert {type(error) for error in errors} == {CredentialUnavailableError}
    assert len({id(error) for error in errors}) == 64
    assert len(shell.requests) == 1


def test_a_failed_acquisition_fails_all_who_waited_once(shell: CloudShellEmulator) -> None:
    shell.latency = 0.1
    shell.script(faults.garbage())
    credential = CloudShellCredential(endpoint=shell.endpoint)
    errors = in_threads(16, lambda _: credential.get_token(ARM))
    assert all(isinstance(error, CredentialUnavailableError) for error in errors)
    assert len(shell.requests) == 1


RESOURCES = [f"https://{name}/.default" for name in ("vault.azure.net", "storage.azure.com", "graph.microsoft.com")]


def test_two_requests_are_never_at_the_endpoint_at_once(shell: CloudShellEmulator) -> None:
    shell.latency = 0.02
    credentials = [CloudShellCredential(endpoint=shell.endpoint) for _ in range(2)]
    asynchronous = AsyncCloudShellCredential(endpoint=shell.endpoint)

    def work(index: int) -> Any:
        scope = RESOURCES[index % 3]
        if index % 4 == 0:
            return asyncio.run(asynchronous.get_token(scope))
        return credentials[index % 2].get_token(scope)

    assert all(isinstance(token, tuple) for token in in_threads(24, work))
    assert shell.max_concurrent_requests == 1


def test_waiting_for_another_request_counts_towards_the_deadline(shell: CloudShellEmulator) -> None:
    shell.script(faults.hang(1.0))
    slow = Thread(target=lambda: CloudShellCredential(endpoint=shell.endpoint).get_token(VAULT))
    slow.start()
    while not shell.requests:
        time.sleep(0.01)
    start = time.monotonic()
    with pytest.raises(CredentialUnavailableError, match="waiting for this process's other token requests"):
        CloudShellCredential(endpoint=shell.endpoint, timeout=0.2).get_token(ARM)
    assert time.monotonic() - start < 1
    slow.join()


def test_an_exception_in_a_hook_reaches_the_caller_and_harms_nobody_else(kind: Any, shell: CloudShellEmulator) -> None:
    calls = []

    def hook(request: Any) -> None:
        calls.append(request)
        if len(calls) == 1:
            raise RuntimeError("the hook's own mistake")

    credential = kind(endpoint=shell.endpoint, raw_request_hook=hook)
    with pytest.raises(RuntimeError, match="the hook's own mistake"):
        credential.get_token(ARM)
    assert credential.get_token(ARM).token


def test_1000_tasks_on_a_cold_cache_make_one_request(shell: CloudShellEmulator) -> None:
    async def main() -> int:
        credential = AsyncCloudShellCredential(endpoint=shell.endpoint)
        return len(set(await asyncio.gather(*(credential.get_token(ARM) for _ in range(1000)))))

    assert asyncio.run(main()) == 1
    assert len(shell.requests) == 1


def test_1000_tasks_on_a_hanging_endpoint_share_one_wait(shell: CloudShellEmulator) -> None:
    shell.script(*[faults.hang()] * 10)

    async def main() -> list[Any]:
        credential = AsyncCloudShellCredential(endpoint=shell.endpoint, timeout=0.5)
        return await asyncio.gather(*(credential.get_token(ARM) for _ in range(1000)), return_exceptions=True)

    start = time.monotonic()
    errors = asyncio.run(main())
    assert time.monotonic() - start < 3
    assert {type(error) for error in errors} == {CredentialUnavailableError}
    assert len(shell.requests) == 1


@pytest.mark.parametrize("cancelled", [0, 1, 19])
def test_cancelling_one_waiter_leaves_the_others_their_token(shell: CloudShellEmulator, cancelled: int) -> None:
    shell.latency = 0.2

    async def main() -> list[Any]:
        credential = AsyncCloudShellCredential(endpoint=shell.endpoint)
        tasks = [asyncio.create_task(credential.get_token(ARM)) for _ in range(20)]
        await asyncio.sleep(0.05)
        tasks[cancelled].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(main())
    assert isinstance(results.pop(cancelled), asyncio.CancelledError)
    assert len(set(results)) == 1
    assert len(shell.requests) == 1


def test_tasks_that_are_cancelled_as_the_token_arrives_are_cancelled(shell: CloudShellEmulator) -> None:
    shell.latency = 0.2

    async def main() -> list[Any]:
        credential = AsyncCloudShellCredential(endpoint=shell.endpoint)
        tasks: list[asyncio.Task[str]] = []

        async def get() -> str:
            await credential.get_token(ARM)
            for task in tasks:
                if task is not asyncio.current_task():
                    task.cancel()
            return "served"

        tasks += [asyncio.create_task(get()) for _ in range(4)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(main())
    assert results.count("served") == 1
    assert [type(result) for result in results].count(asyncio.CancelledError) == 3


def test_a_loop_that_ends_while_it_waits_does_not_disturb_the_acquisition(shell: CloudShellEmulator, log: Any) -> None:
    shell.latency = 0.4
    credential = AsyncCloudShellCredential(endpoint=shell.endpoint)
    first = Thread(target=lambda: asyncio.run(credential.get_token(ARM)))
    first.start()
    while not shell.requests:
        time.sleep(0.01)
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(asyncio.wait_for(credential.get_token(ARM), 0.05))
    first.join()
    assert asyncio.run(credential.get_token(ARM)).token
    assert len(shell.requests) == 1
    assert not any("exception calling callback" in line for line in log.lines)


def test_one_instance_serves_many_event_loops(shell: CloudShellEmulator) -> None:
    credential = AsyncCloudShellCredential(endpoint=shell.endpoint)
    scopes = [RESOURCES[index % 3] for index in range(12)]
    tokens = in_threads(12, lambda index: asyncio.run(credential.get_token(scopes[index])))
    assert len(set(tokens)) == 3
    assert len(shell.requests) == 3


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_would_end_a_thread_or_a_loop_ends_the_acquisition_only(
    kind: Any, shell: CloudShellEmulator, mocker: Any, error: type[BaseException]
) -> None:
    hook = mocker.Mock(side_effect=[error(), None])
    credential = kind(endpoint=shell.endpoint, raw_request_hook=hook)
    with pytest.raises(CredentialUnavailableError, match=f"a hook or the transport raised {error.__name__}"):
        credential.get_token(ARM)
    assert credential.get_token(ARM).token
    assert hook.call_count == 2


def test_a_mock_whose_side_effects_are_used_up_is_called_once(
    kind: Any, shell: CloudShellEmulator, mocker: Any
) -> None:
    transport = mocker.MagicMock(send=mocker.Mock(side_effect=iter(())))
    with pytest.raises(CredentialUnavailableError, match="StopIteration"):
        kind(endpoint=shell.endpoint, transport=transport).get_token(ARM)
    assert transport.send.call_count == 1


def test_tasks_cancelled_before_their_first_step_leave_the_next_caller_its_token(shell: CloudShellEmulator) -> None:
    credential = AsyncCloudShellCredential(endpoint=shell.endpoint)

    async def cancel_at_once() -> None:
        tasks = [asyncio.create_task(credential.get_token(ARM)) for _ in range(5)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def exit_in_a_sibling() -> None:
        async def leave() -> None:
            raise SystemExit(3)

        await asyncio.gather(leave(), credential.get_token(VAULT))

    asyncio.run(cancel_at_once())
    with pytest.raises(SystemExit):
        asyncio.run(exit_in_a_sibling())
    start = time.monotonic()
    assert asyncio.run(credential.get_token(ARM)).token
    assert asyncio.run(credential.get_token(VAULT)).token
    assert time.monotonic() - start < 2


def test_after_wait_for_ran_out_and_its_loop_was_closed_the_next_call_has_the_token(shell: CloudShellEmulator) -> None:
    shell.script(faults.hang(0.3))
    credential = AsyncCloudShellCredential(endpoint=shell.endpoint, timeout=5)
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(asyncio.wait_for(credential.get_token(ARM), 0.05))
    assert asyncio.run(credential.get_token(ARM)).token
    assert len(shell.requests) == 1


def test_a_sync_call_on_a_loop_thread_with_an_async_one_under_way(shell: CloudShellEmulator) -> None:
    shell.latency = 0.1
    synchronous = CloudShellCredential(endpoint=shell.endpoint)
    asynchronous = AsyncCloudShellCredential(endpoint=shell.endpoint)

    async def main() -> tuple[Any, Any]:
        task = asyncio.create_task(asynchronous.get_token(ARM))
        await asyncio.sleep(0.02)
        return synchronous.get_token(VAULT), await task

    start = time.monotonic()
    first, second = asyncio.run(main())
    assert first != second
    assert time.monotonic() - start < 2
    assert shell.max_concurrent_requests == 1


def test_an_event_loop_that_stops_for_good_harms_nobody(shell: CloudShellEmulator) -> None:
    shell.latency = 0.2
    credential = AsyncCloudShellCredential(endpoint=shell.endpoint)
    loop = asyncio.new_event_loop()
    task = loop.create_task(credential.get_token(ARM))
    loop.run_until_complete(asyncio.sleep(0.05))
    # It stops running, with the task in it, and is held by whoever stopped it.
    assert asyncio.run(credential.get_token(ARM)).token
    assert CloudShellCredential(endpoint=shell.endpoint).get_token(VAULT).token
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    assert len(shell.requests) == 2


def test_on_trio_tasks_share_one_request_and_cancellation_harms_nobody(shell: CloudShellEmulator) -> None:
    shell.latency = 0.1
    credential = AsyncCloudShellCredential(endpoint=shell.endpoint)
    tokens: set[Any] = set()

    async def get() -> None:
        tokens.add(await credential.get_token(ARM))

    async def main() -> None:
        with trio.move_on_after(0.02):
            await credential.get_token(ARM)
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(get)

    trio.run(main)
    assert len(tokens) == 1
    assert len(shell.requests) == 1


def test_trio_as_a_guest_of_asyncio(shell: CloudShellEmulator) -> None:
    credential = AsyncCloudShellCredential(endpoint=shell.endpoint)

    async def host() -> Any:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            credential.get_token,
            ARM,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
        )
        return (await done).unwrap()

    assert asyncio.run(host()).token


def test_a_hook_that_asks_for_a_token_is_told_so_at_once(kind: Any, shell: CloudShellEmulator) -> None:
    errors: list[str] = []

    def hook(request: Any) -> None:
        for scope in (ARM, VAULT):
            try:
                other.get_token(scope)
            except CredentialUnavailableError as error:
                errors.append(str(error))

    credential = kind(endpoint=shell.endpoint, raw_request_hook=hook)
    other = CloudShellCredential(endpoint=shell.endpoint)
    start = time.monotonic()
    assert credential.get_token(ARM).token
    assert time.monotonic() - start < 2
    assert len(errors) == 2
    assert all("inside another token request on the same thread" in error for error in errors)


def test_inside_a_request_a_stale_token_is_handed_out_as_it_is(shell: CloudShellEmulator) -> None:
    shell.lifetime = 60
    other = CloudShellCredential(endpoint=shell.endpoint)
    held = other.get_token(VAULT)
    seen: list[Any] = []

    def hook(request: Any) -> None:
        seen.append(other.get_token(VAULT))

    assert CloudShellCredential(endpoint=shell.endpoint, raw_request_hook=hook).get_token(ARM).token
    assert seen == [held]


def test_where_no_thread_can_be_started_the_caller_asks(kind: Any, shell: CloudShellEmulator, mocker: Any) -> None:
    credential = kind(endpoint=shell.endpoint)
    start = Thread.start

    def refuse(thread: Thread) -> None:
        # The emulator still gets its own.
        if thread.name == "azure-cloudshell-credential":
            raise RuntimeError("can't start new thread")
        start(thread)

    mocker.patch.object(Thread, "start", refuse)
    assert credential.get_token(ARM).token
    mocker.stopall()
    assert len(shell.requests) == 1


def test_the_thread_of_an_acquisition_has_a_name_and_the_hooks_of_debuggers(shell: CloudShellEmulator) -> None:
    seen: list[Any] = []
    lines: list[str] = []

    def trace(frame: Any, event: str, argument: Any) -> Any:
        lines.append(frame.f_code.co_name)
        return trace

    def hook(request: Any) -> None:
        seen.append((threading.current_thread(), sys.getprofile() is profile))

    def profile(frame: Any, event: str, argument: Any) -> None:
        pass

    before = threading.gettrace(), threading.getprofile()
    threading.settrace(trace)
    threading.setprofile(profile)
    try:
        assert CloudShellCredential(endpoint=shell.endpoint, raw_request_hook=hook).get_token(ARM).token
    finally:
        threading.settrace(before[0])
        threading.setprofile(before[1])
    ((thread, is_profiled),) = seen
    assert (thread.name, thread.daemon, is_profiled) == ("azure-cloudshell-credential", True, True)
    assert "hook" in lines
    wait_until(lambda: thread not in threading.enumerate())


def test_an_acquisition_that_no_thread_ever_runs_is_given_up(kind: Any, shell: CloudShellEmulator, mocker: Any) -> None:
    credential = kind(endpoint=shell.endpoint, timeout=0.5)
    mocker.patch.object(Thread, "start")
    start = time.monotonic()
    with pytest.raises(CredentialUnavailableError, match="was not sent: its thread has not been run"):
        credential.get_token(ARM)
    assert time.monotonic() - start < 3


def test_a_transport_that_never_comes_back_is_given_up(kind: Any, shell: CloudShellEmulator, mocker: Any) -> None:
    release = Event()
    transport = mocker.MagicMock(send=mocker.Mock(side_effect=lambda *_, **__: release.wait(20)))
    credential = kind(endpoint=shell.endpoint, transport=transport, timeout=0.3)
    start = time.monotonic()
    with pytest.raises(CredentialUnavailableError, match="did not answer within"):
        credential.get_token(ARM)
    assert time.monotonic() - start < 1
    # The endpoint is not blocked by it for longer than its own budget.
    assert CloudShellCredential(endpoint=shell.endpoint).get_token(VAULT).token
    assert time.monotonic() - start < 3
    release.set()


def test_the_acquisition_runs_in_a_copy_of_the_askers_context(shell: CloudShellEmulator) -> None:
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="default")
    seen: list[str] = []
    credential = CloudShellCredential(endpoint=shell.endpoint, raw_request_hook=lambda _: seen.append(variable.get()))
    variable.set("the asker's")
    credential.get_token(ARM)
    assert seen == ["the asker's"]


def test_no_thread_is_left(kind: Any, shell: CloudShellEmulator) -> None:
    kind(endpoint=shell.endpoint).get_token(ARM)
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "azure-cloudshell-credential"])


def test_tokens_can_be_expired_while_credentials_are_made(shell: CloudShellEmulator) -> None:
    stop = Event()

    def make() -> None:
        while not stop.is_set():
            CloudShellCredential(endpoint=shell.endpoint)

    makers = [Thread(target=make) for _ in range(3)]
    for maker in makers:
        maker.start()
    try:
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            shell.expire_tokens()
    finally:
        stop.set()
        for maker in makers:
            maker.join()


DROPPED = """
import gc, weakref
from azure_cloudshell_credential import CloudShellCredential
credential = CloudShellCredential()
credential.get_token("https://vault.azure.net/.default")
credential, dropped = None, weakref.ref(credential)
gc.collect()
print(dropped())
"""


def test_a_dropped_credential_is_collected(shell: CloudShellEmulator) -> None:
    # In a process of its own: here the fixture that looks for tokens keeps every credential.
    done = subprocess.run(
        [sys.executable, "-c", DROPPED],
        env={**os.environ, **shell.environment},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"None\n"
