"""Keywords, transports and hooks."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from azure.core.pipeline.transport import AioHttpTransport, AsyncioRequestsTransport, RequestsTransport
from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import CloudShellCredential, DefaultCloudShellCredential
from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential
from azure_cloudshell_credential.aio import DefaultCloudShellCredential as AsyncDefaultCloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator, faults

from . import misbehaving as peer
from .conftest import ARM, VAULT, waited
from .misbehaving import Behaviour, MisbehavingServer

Start = Callable[[Behaviour], MisbehavingServer]


@pytest.mark.parametrize(
    "name", ["timeout", "retry_total", "retry_backoff_factor", "connection_timeout", "read_timeout"]
)
@pytest.mark.parametrize("value", [-1, "x", True, float("nan"), float("inf"), [], -0.5])
def test_keywords_must_be_numbers(kind: Any, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a number (above 0|of 0 or more), not"):
        kind(**{name: value})


@pytest.mark.parametrize("name", ["timeout", "connection_timeout", "read_timeout"])
def test_no_time_at_all_is_refused(kind: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a number above 0, not 0"):
        kind(**{name: 0})


def test_none_is_an_absent_keyword(kind: Any, shell: CloudShellEmulator) -> None:
    names = ["timeout", "connection_timeout", "read_timeout", "retry_total", "retry_backoff_factor", "transport"]
    nothing = dict.fromkeys([*names, "user_agent", "client_id", "tenant_id", "logging_enable"])
    assert kind(endpoint=shell.endpoint, **nothing).get_token(ARM).token


@pytest.mark.parametrize("make", [DefaultCloudShellCredential, AsyncDefaultCloudShellCredential])
def test_none_is_an_absent_keyword_of_the_default_chain_too(make: Any, in_cloud_shell: CloudShellEmulator) -> None:
    assert waited(make(timeout=None).get_token(ARM)).token


@pytest.mark.parametrize(
    ("keyword", "instead"),
    [
        ("client_id", "Cloud Shell has no managed identity, its tokens are the signed-in user's. Leave it out."),
        ("tenant_id", "Pass tenant_id to get_token, or switch the directory in the portal."),
    ],
)
def test_a_keyword_that_would_change_nothing_is_refused(kind: Any, keyword: str, instead: str) -> None:
    with pytest.raises(ValueError, match=f"^CloudShellCredential takes no {keyword}: .*{re.escape(instead)}$"):
        kind(**{keyword: "x"})


@pytest.mark.parametrize("make", [DefaultCloudShellCredential, AsyncDefaultCloudShellCredential])
def test_the_default_chain_takes_what_default_azure_credential_takes(
    make: Any, in_cloud_shell: CloudShellEmulator
) -> None:
    ids = {"managed_identity_client_id": "x", "workload_identity_client_id": "x"}
    assert waited(make(**ids, exclude_managed_identity_credential=True).get_token(ARM)).token
    # DefaultAzureCredential's own answer.
    with pytest.raises(TypeError, match="tenant_id"):
        make(tenant_id="x")


@pytest.mark.parametrize(
    "make",
    [CloudShellCredential, AsyncCloudShellCredential, DefaultCloudShellCredential, AsyncDefaultCloudShellCredential],
)
def test_a_positional_argument_is_refused_in_the_name_of_the_class(make: Any) -> None:
    with pytest.raises(
        TypeError, match=rf"^{make.__name__}\.__init__\(\) takes 1 positional argument but 2 were given"
    ):
        make("x")


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_exception_in_a_with_block_reaches_transports_and_steps(
    in_cloud_shell: CloudShellEmulator, is_async: bool
) -> None:
    seen: list[Any] = []

    class Telling(RequestsTransport):  # type: ignore[misc]
        def __exit__(self, *args: Any) -> None:
            seen.append(args)
            super().__exit__(*args)

    class Step:
        def __enter__(self) -> None: ...

        def __exit__(self, *args: Any) -> None:
            seen.append(args)

    class Problem(Exception):
        pass

    async def within(credential: Any) -> None:
        async with credential:
            raise Problem

    def raise_in(credential: Any) -> None:
        with credential:
            raise Problem

    asynchronous: tuple[Any, Any] = (AsyncCloudShellCredential, AsyncDefaultCloudShellCredential)
    alone, chain = asynchronous if is_async else (CloudShellCredential, DefaultCloudShellCredential)
    default = chain(transport=Telling())
    default.credentials = default._transports = (default.credentials[0], Step())
    for credential in (alone(transport=Telling()), default):
        with pytest.raises(Problem):
            asyncio.run(within(credential)) if is_async else raise_in(credential)
    assert [args[0] for args in seen] == [Problem] * 3
    assert all(isinstance(args[1], Problem) and args[2] is not None for args in seen)


@pytest.mark.parametrize("transport", [None, RequestsTransport])
@pytest.mark.parametrize("value", [1e10, 2**63 - 1, 10**400 // 10**392, 1e300])
def test_a_budget_beyond_what_the_platform_takes_counts_as_a_day(
    kind: Any, shell: CloudShellEmulator, value: float, transport: Any
) -> None:
    options = {} if transport is None else {"transport": transport()}
    names = ("timeout", "connection_timeout", "read_timeout")
    credential = kind(endpoint=shell.endpoint, **dict.fromkeys(names, value), **options)
    assert credential.get_token(ARM).token


@pytest.mark.parametrize("timeout", [1e-9, 1e-4, 0.0011, 0.002, 0.005])
@pytest.mark.parametrize("transport", [None, RequestsTransport])
def test_a_budget_that_is_used_up_as_the_request_starts(
    kind: Any, shell: CloudShellEmulator, timeout: float, transport: Any
) -> None:
    options = {} if transport is None else {"transport": transport()}
    for _ in range(10):
        with suppress(CredentialUnavailableError):
            assert kind(endpoint=shell.endpoint, timeout=timeout, **options).get_token(ARM).token


def test_thousands_of_retries_without_back_off(kind: Any, shell: CloudShellEmulator) -> None:
    shell.script(*[faults.server_error(500)] * 1100)
    credential = kind(endpoint=shell.endpoint, retry_total=5000, retry_backoff_factor=0, logging_enable=False)
    assert credential.get_token(ARM).token
    assert len(shell.requests) == 1101


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
        seen.update(content=reply.content, body=reply.body(), url=reply.request.url)

    credential = kind(endpoint=shell.endpoint, raw_request_hook=request_hook, raw_response_hook=response_hook)
    token = credential.get_token(ARM)
    assert shell.requests[0].headers["x-mine"] == "yes"
    assert seen["status"] == 200
    assert seen["json"]["access_token"] == token.token
    assert seen["text"].encode() == seen["content"] == seen["body"]
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
def test_an_async_transport_is_refused_with_the_reason(kind: Any, make: Any) -> None:
    with pytest.raises(ValueError, match="must be a synchronous one of azure-core's"):
        kind(transport=make.__new__(make))


def test_the_async_credential_enters_and_closes_a_synchronous_transport(shell: CloudShellEmulator, mocker: Any) -> None:
    transport = RequestsTransport()
    send, enter, leave = (mocker.spy(transport, name) for name in ("send", "open", "close"))

    async def main() -> None:
        async with AsyncCloudShellCredential(endpoint=shell.endpoint, transport=transport) as credential:
            await credential.get_token(ARM)
            await credential.get_token(VAULT)

    asyncio.run(main())
    assert (send.call_count, leave.call_count) == (2, 1)
    assert enter.call_count >= 1


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
def test_the_budget_holds_whatever_the_transport(kind: Any, misbehaving: Start, behaviour: Behaviour) -> None:
    server = misbehaving(behaviour)
    start = time.monotonic()
    with pytest.raises(CredentialUnavailableError):
        kind(transport=RequestsTransport(), endpoint=server.endpoint, timeout=0.5).get_token(ARM)
    assert time.monotonic() - start < 2


def test_a_proxy_in_the_environment_is_ignored_with_a_transport_of_requests(
    shell: CloudShellEmulator, misbehaving: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = misbehaving(peer.hang())
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.endpoint)
    assert CloudShellCredential(endpoint=shell.endpoint, transport=RequestsTransport()).get_token(ARM).token
    assert proxy.requests == []


def test_the_documented_defaults() -> None:
    policy = CloudShellCredential()._policy
    assert (policy.timeout, policy.retry_total, policy.retry_backoff_factor) == (30, None, 0.4)
