"""What a credential promises beyond the table: threads, tasks, processes, transports, hooks."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from typing import Any

import pytest
from azure.core.credentials import SupportsTokenInfo, TokenCredential
from azure.core.credentials_async import AsyncSupportsTokenInfo, AsyncTokenCredential
from azure.core.pipeline.transport import AioHttpTransport, AsyncioRequestsTransport, RequestsTransport
from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import CloudShellCredential, _base, _turnstile
from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator, faults

from . import misbehaving as peer
from .conftest import ARM, SECRET
from .misbehaving import Behaviour, MisbehavingServer

VAULT = "https://vault.azure.net/.default"
Start = Callable[[Behaviour], MisbehavingServer]


def test_they_are_what_azure_core_calls_a_credential() -> None:
    assert isinstance(CloudShellCredential(), TokenCredential)
    assert isinstance(CloudShellCredential(), SupportsTokenInfo)
    assert isinstance(AsyncCloudShellCredential(), AsyncTokenCredential)
    assert isinstance(AsyncCloudShellCredential(), AsyncSupportsTokenInfo)


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run work in threads that start together; what it raised counts as its result."""
    go = Event()

    def run(index: int) -> Any:
        go.wait()
        try:
            return work(index)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(run, index) for index in range(count)]
        go.set()
        return [future.result() for future in futures]


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


def test_a_failed_flight_fails_all_who_waited_once(shell: CloudShellEmulator) -> None:
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
    assert shell.most_at_once == 1


def test_whoever_waits_in_the_queue_waits_within_the_budget(shell: CloudShellEmulator) -> None:
    shell.script(faults.hang(1.0))
    slow = Thread(target=lambda: CloudShellCredential(endpoint=shell.endpoint).get_token(VAULT))
    slow.start()
    while not shell.requests:
        time.sleep(0.01)
    start = time.monotonic()
    with pytest.raises(CredentialUnavailableError, match="busy with this process's earlier requests"):
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


def test_an_event_loop_that_ends_in_mid_flight_leaves_another_its_token(shell: CloudShellEmulator) -> None:
    shell.latency = 0.4
    credential = AsyncCloudShellCredential(endpoint=shell.endpoint)

    async def give_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(credential.get_token(ARM), 0.1)

    first = Thread(target=lambda: asyncio.run(give_up()))
    first.start()
    while not shell.requests:
        time.sleep(0.01)
    # Joins the flight of the first loop, which is about to be torn down.
    assert asyncio.run(credential.get_token(ARM)).token
    first.join()
    assert len(shell.requests) <= 2


def test_a_loop_that_ends_while_it_waits_does_not_disturb_the_flight(shell: CloudShellEmulator, log: Any) -> None:
    shell.latency = 0.4
    credential = AsyncCloudShellCredential(endpoint=shell.endpoint)
    flying = Thread(target=lambda: asyncio.run(credential.get_token(ARM)))
    flying.start()
    while not shell.requests:
        time.sleep(0.01)
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(asyncio.wait_for(credential.get_token(ARM), 0.05))
    flying.join()
    assert asyncio.run(credential.get_token(ARM)).token
    assert len(shell.requests) == 1
    assert not any("exception calling callback" in line for line in log.lines)


def test_one_instance_serves_many_event_loops(shell: CloudShellEmulator) -> None:
    credential = AsyncCloudShellCredential(endpoint=shell.endpoint)
    scopes = [RESOURCES[index % 3] for index in range(12)]
    tokens = in_threads(12, lambda index: asyncio.run(credential.get_token(scopes[index])))
    assert len(set(tokens)) == 3
    assert len(shell.requests) == 3


def test_a_flight_whose_loop_died_silently_is_given_up(shell: CloudShellEmulator, mocker: Any) -> None:
    mocker.patch.object(_base, "_GRACE", 0.1)
    shell.latency = 5
    credential = AsyncCloudShellCredential(endpoint=shell.endpoint, timeout=0.3)
    loop = asyncio.new_event_loop()
    task = loop.create_task(credential.get_token(ARM))
    loop.run_until_complete(asyncio.sleep(0.1))
    # The loop stops running, with the flight in it.
    with pytest.raises(CredentialUnavailableError, match="did not answer"):
        asyncio.run(credential.get_token(ARM))
    shell.latency = 0
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()


def test_an_event_loop_that_stops_for_good_does_not_block_the_endpoint(shell: CloudShellEmulator, mocker: Any) -> None:
    mocker.patch.object(_turnstile, "GRACE", 0.1)
    shell.latency = 5
    loop = asyncio.new_event_loop()
    task = loop.create_task(AsyncCloudShellCredential(endpoint=shell.endpoint, timeout=0.5).get_token(ARM))
    loop.run_until_complete(asyncio.sleep(0.1))
    shell.latency = 0
    # Stopped in mid flight, and held by whoever stopped it.
    time.sleep(0.6)
    assert CloudShellCredential(endpoint=shell.endpoint).get_token(ARM).token
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()


def test_a_sync_flight_that_is_interrupted_is_flown_by_another(shell: CloudShellEmulator, mocker: Any) -> None:
    shell.latency = 0.2
    credential = CloudShellCredential(endpoint=shell.endpoint)
    ask = credential._ask
    interrupted = Event()

    def interrupt_the_first(step: Any) -> Any:
        answer = ask(step)
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt
        return answer

    mocker.patch.object(credential, "_ask", interrupt_the_first)

    def work(index: int) -> Any:
        try:
            return credential.get_token(ARM)
        except KeyboardInterrupt:
            return "interrupted"

    results = in_threads(4, work)
    assert results.count("interrupted") == 1
    assert len(set(results)) == 2
    assert len(shell.requests) == 2


def test_pickles_carry_the_configuration_and_no_token(kind: Any, in_cloud_shell: CloudShellEmulator) -> None:
    credential = kind(timeout=7, retry_total=1, user_agent="me").credential
    kind.get_token(mocked := type("Held", (), {"credential": credential})(), ARM)
    assert mocked.credential is credential
    pickled = pickle.dumps(credential)
    assert not SECRET.search(pickled.decode("latin-1"))
    in_cloud_shell.reset()
    os.environ.pop("MSI_ENDPOINT")
    twin = pickle.loads(pickled)
    assert twin.endpoint == credential.endpoint
    assert (twin._patience.timeout, twin._patience.retry_total) == (7, 1)
    mocked.credential = twin
    assert kind.get_token(mocked, ARM).token
    assert "me azsdk-python" in in_cloud_shell.requests[0].headers["user-agent"]


def test_errors_can_be_pickled(kind: Any, shell: CloudShellEmulator) -> None:
    shell.audiences = ["https://vault.azure.net"]
    shell.list_audiences = True
    with pytest.raises(CredentialUnavailableError) as raised:
        kind(endpoint=shell.endpoint).get_token(ARM)
    twin = pickle.loads(pickle.dumps(raised.value))
    assert (type(twin), str(twin)) == (type(raised.value), str(raised.value))
    assert (twin.resource, twin.supported_audiences) == ("https://management.azure.com", ("https://vault.azure.net",))


def _token_in_a_child(credential: Any, queue: Any) -> None:
    queue.put(credential.get_token(ARM).expires_on)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_credential_travels_to_a_worker_process(shell: CloudShellEmulator, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    queue = context.Queue()
    worker = context.Process(target=_token_in_a_child, args=(CloudShellCredential(endpoint=shell.endpoint), queue))
    worker.start()
    assert queue.get(timeout=30) > time.time()
    worker.join()
    queue.close()
    queue.join_thread()


FORK = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore")
from azure_cloudshell_credential import CloudShellCredential
credential = CloudShellCredential(timeout=10)
flying = threading.Thread(target=lambda: credential.get_token("https://management.azure.com/.default"))
flying.start()
time.sleep(0.3)  # its request is now at the endpoint
child = os.fork()
if child == 0:
    try:
        started = time.monotonic()
        ok = bool(credential.get_token("https://management.azure.com/.default").token)
        ok = ok and bool(credential.get_token("https://vault.azure.net/.default").token)
        os._exit(0 if ok and time.monotonic() - started < 5 else 3)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(4)
_, status = os.waitpid(child, 0)
flying.join()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_fork_in_mid_flight_leaves_the_child_a_working_credential(shell: CloudShellEmulator) -> None:
    shell.latency = 0.7
    run = subprocess.run([sys.executable, "-c", FORK], env={**os.environ, **shell.environment}, timeout=60, check=False)
    assert run.returncode == 0


EXIT = """
import sys, threading
from azure_cloudshell_credential import CloudShellCredential
KIND
threading.Thread(target=get, daemon=True).start()
sys.stdin.readline()
"""
KINDS = {
    "sync": "get = lambda: CloudShellCredential().get_token('https://management.azure.com/.default')",
    "sync with a transport": "from azure.core.pipeline.transport import RequestsTransport\n"
    "get = lambda: CloudShellCredential(transport=RequestsTransport()).get_token('https://management.azure.com')",
    "async": "import asyncio; from azure_cloudshell_credential.aio import CloudShellCredential\n"
    "get = lambda: asyncio.run(CloudShellCredential().get_token('https://management.azure.com/.default'))",
    "async without aiohttp": "import asyncio; sys.modules['aiohttp'] = None\n"
    "from azure_cloudshell_credential.aio import CloudShellCredential\n"
    "get = lambda: asyncio.run(CloudShellCredential().get_token('https://management.azure.com/.default'))",
}


@pytest.mark.parametrize("which", KINDS)
def test_the_interpreter_exits_promptly_with_a_request_in_flight(shell: CloudShellEmulator, which: str) -> None:
    shell.script(faults.hang())
    program = EXIT.replace("KIND", KINDS[which])
    with subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, **shell.environment}, stdin=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        while not shell.requests:
            time.sleep(0.01)
        start = time.monotonic()
        process.stdin.write("leave\n")
        process.stdin.flush()
        assert process.wait(20) == 0
        assert time.monotonic() - start < 5
    assert len(shell.requests) == 1


def test_keywords_must_be_numbers(kind: Any) -> None:
    for name in ("timeout", "retry_total", "retry_backoff_factor", "connection_timeout", "read_timeout"):
        for value in (-1, "x", None, True, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=f"{name} must be a number"):
                kind(**{name: value})


def test_unknown_keywords_are_ignored_as_in_azure_identity(kind: Any, shell: CloudShellEmulator) -> None:
    assert kind(endpoint=shell.endpoint, additionally_allowed_tenants=["*"]).get_token(ARM).token


def test_read_timeout_bounds_a_wait_within_the_budget(kind: Any, shell: CloudShellEmulator) -> None:
    shell.script(faults.hang())
    start = time.monotonic()
    with pytest.raises(CredentialUnavailableError):
        kind(endpoint=shell.endpoint, read_timeout=0.3).get_token(ARM)
    assert time.monotonic() - start < 2


def test_hooks_see_the_request_and_the_whole_reply(kind: Any, shell: CloudShellEmulator) -> None:
    seen: dict[str, Any] = {}

    def request_hook(request: Any) -> None:
        request.http_request.headers["X-Mine"] = "yes"

    def response_hook(response: Any) -> None:
        reply = response.http_response
        seen.update(status=reply.status_code, text=reply.text(), json=reply.json(), type=reply.content_type)
        seen.update(content=reply.content, read=reply.is_stream_consumed, closed=reply.is_closed, url=reply.url)

    credential = kind(endpoint=shell.endpoint, raw_request_hook=request_hook, raw_response_hook=response_hook)
    token = credential.get_token(ARM)
    assert shell.requests[0].headers["x-mine"] == "yes"
    assert seen["status"] == 200
    assert seen["json"]["access_token"] == token.token
    assert seen["text"].encode() == seen["content"]
    assert seen["type"].startswith("application/json")
    assert seen["url"] == shell.endpoint


def test_a_hook_cannot_send_the_request_elsewhere(shell: CloudShellEmulator) -> None:
    def hook(request: Any) -> None:
        request.http_request.url = "http://evil.example/"

    with pytest.raises(ValueError, match="leaves this machine"):
        CloudShellCredential(endpoint=shell.endpoint, raw_request_hook=hook).get_token(ARM)


def test_the_user_agent_can_be_extended(kind: Any, shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_HTTP_USER_AGENT", "cloud-shell/1.0")
    kind(endpoint=shell.endpoint, user_agent="my-tool/2").get_token(ARM)
    agent = shell.requests[0].headers["user-agent"]
    assert agent.startswith("my-tool/2 azsdk-python-cloudshell-credential/")
    assert agent.endswith("cloud-shell/1.0")


def test_a_transport_carries_every_request_and_is_entered_and_closed(shell: CloudShellEmulator, mocker: Any) -> None:
    transport = RequestsTransport()
    send, enter, leave = (mocker.spy(transport, name) for name in ("send", "open", "close"))
    with CloudShellCredential(endpoint=shell.endpoint, transport=transport) as credential:
        assert enter.call_count == 1
        credential.get_token(ARM)
        credential.get_token(VAULT)
    assert send.call_count == 2
    assert leave.call_count == 1
    with pytest.raises(ValueError, match="transport has already been closed"):
        credential.get_token("https://graph.microsoft.com/.default")
    assert credential.get_token(ARM).token


@pytest.mark.parametrize("make", [AioHttpTransport, AsyncioRequestsTransport])
def test_an_async_transport_does_too(shell: CloudShellEmulator, make: Any, mocker: Any) -> None:
    async def main() -> None:
        transport = make()
        send, leave = mocker.spy(transport, "send"), mocker.spy(transport, "close")
        async with AsyncCloudShellCredential(endpoint=shell.endpoint, transport=transport) as credential:
            await credential.get_token(ARM)
            await credential.get_token(VAULT)
        assert send.call_count == 2
        assert leave.call_count == 1

    asyncio.run(main())


def test_without_a_transport_a_closed_credential_can_be_used_again(shell: CloudShellEmulator) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint)
    credential.get_token(ARM)
    credential.close()
    assert credential.get_token(VAULT).token

    async def main() -> None:
        credential = AsyncCloudShellCredential(endpoint=shell.endpoint)
        await credential.get_token(ARM)
        await credential.close()
        assert (await credential.get_token(VAULT)).token

    asyncio.run(main())


@pytest.mark.parametrize(
    "behaviour",
    [
        peer.drip(b"HTTP/1.1 200 OK\r\nX: "),
        peer.hang(),
        peer.flood(b"HTTP/1.1 200 OK\r\n\r\n"),
        peer.reset(),
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
        peer.reply(b"\x1f\x8b" + b"x" * 99, 200, "Content-Encoding: gzip"),
    ],
    ids=["drips", "hangs", "floods", "resets", "cuts off", "compresses"],
)
@pytest.mark.parametrize("make", [RequestsTransport, AioHttpTransport])
def test_the_budget_holds_whatever_the_transport(misbehaving: Start, make: Any, behaviour: Behaviour) -> None:
    server = misbehaving(behaviour)
    options: dict[str, Any] = {"endpoint": server.endpoint, "timeout": 0.5}
    start = time.monotonic()
    with pytest.raises(CredentialUnavailableError):
        if make is RequestsTransport:
            CloudShellCredential(transport=make(), **options).get_token(ARM)
        else:

            async def main() -> None:
                async with AsyncCloudShellCredential(transport=make(), **options) as credential:
                    await credential.get_token(ARM)

            asyncio.run(main())
    assert time.monotonic() - start < 2


def test_a_proxy_in_the_environment_is_ignored_with_a_transport_of_requests(
    shell: CloudShellEmulator, misbehaving: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = misbehaving(peer.hang())
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.endpoint)
    assert CloudShellCredential(endpoint=shell.endpoint, transport=RequestsTransport()).get_token(ARM).token
    assert proxy.requests == []


def test_a_dropped_credential_is_collected(shell: CloudShellEmulator) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint, logging_enable=False)
    cache = weakref.ref(credential._cache)
    assert cache() is not None
    # The fixture that checks for leaks holds credentials, so only their cache's registry is checked here.
    del credential._cache
    import gc

    gc.collect()
    assert cache() is None


def test_the_documented_defaults() -> None:
    patience = CloudShellCredential()._patience
    assert (patience.timeout, patience.retry_total, patience.backoff_factor) == (30.0, 3, 0.4)
