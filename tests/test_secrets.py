"""One token traced through everything that a program may show: logs, errors, reprs, pickles, tracebacks, arguments.

Every other test is checked for shown tokens too, by the fixture ``log``.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import os
import pickle
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.core.settings import settings as azure_settings
from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator, ScriptedReply

from .conftest import ARM, CANARY, WITH_AND_WITHOUT_LOGGING, Everything

pytestmark = WITH_AND_WITHOUT_LOGGING

TOKEN = json.dumps({"access_token": CANARY, "expires_in": "3600"})
# Replies that hold the token and are no token's.
UNUSABLE = {
    "no expiry": json.dumps({"access_token": CANARY}),
    "expired": json.dumps({"access_token": CANARY, "expires_on": "1"}),
    "another type": json.dumps({"access_token": CANARY, "expires_in": 60, "token_type": "pop"}),
    "cut off": TOKEN[:-1],
    "in a list": f"[{TOKEN}]",
    "twice": TOKEN + TOKEN,
    "with an error": json.dumps({"access_token": CANARY, "error": {"code": "c", "message": f"not {CANARY}"}}),
    "text": CANARY,
}


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING])
def test_no_log_shows_it(kind: Any, shell: CloudShellEmulator, log: Everything, level: int) -> None:
    logging.getLogger().setLevel(level)
    shell.script(ScriptedReply(200, TOKEN))
    credential = kind(endpoint=shell.endpoint, logging_enable=True)
    assert credential.get_token(ARM).token == CANARY
    credential.get_token_info(ARM)
    assert not any(CANARY in line for line in log.lines)


def test_no_log_shows_it_in_a_header(kind: Any, shell: CloudShellEmulator, log: Everything) -> None:
    secret, _ = shell.issue("https://vault.azure.net")
    shell.script(ScriptedReply(200, TOKEN, {"X-Token": f"Bearer {secret}", secret: "1", "X-Ms-Request-Id": "1-2"}))
    assert kind(endpoint=shell.endpoint, logging_enable=True).get_token(ARM).token == CANARY
    shown = "\n".join(log.lines)
    assert secret not in shown
    assert "Bearer [redacted]" in shown
    assert "1-2" in shown


def frames(error: BaseException) -> str:
    """A traceback with the locals of each frame of ours, as cgitb and error trackers print them."""
    shown = []
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if "azure_cloudshell_credential" in frame.f_code.co_filename:
            shown += [f"{name} = {value!r}" for name, value in frame.f_locals.items()]
    return "\n".join(shown)


@pytest.mark.parametrize("body", UNUSABLE.values(), ids=UNUSABLE)
def test_no_error_shows_it(kind: Any, shell: CloudShellEmulator, body: str) -> None:
    for status in (200, 400):
        shell.script(*[ScriptedReply(status, body)] * 5)
        with pytest.raises(CredentialUnavailableError) as raised:
            kind(endpoint=shell.endpoint, retry_total=0).get_token(ARM)
        error = raised.value
        shown = [str(error), repr(error), repr(error.__dict__), repr(error.args), frames(error)]
        shown += ["".join(traceback.format_exception(error)), pickle.dumps(error).decode("latin-1")]
        assert not any(CANARY in text for text in shown)
        assert error.__cause__ is None
        assert error.__context__ is None
        shell.reset()


def test_no_repr_or_pickle_of_a_credential_shows_it(kind: Any, shell: CloudShellEmulator) -> None:
    shell.script(ScriptedReply(200, TOKEN))
    credential = kind(endpoint=shell.endpoint)
    credential.get_token(ARM)
    held = credential.credential._cache.fresh((ARM,))
    assert held is not None
    for thing in (
        credential.credential,
        credential.credential._cache,
        held,
        held.token,
        vars(credential.credential),
    ):
        assert CANARY not in repr(thing)
    assert CANARY not in pickle.dumps(credential.credential).decode("latin-1")


class Span:
    """A tracing span that keeps what it is told."""

    kept: list[str] = []

    def __init__(self, span: Any = None, name: str = "span", **kwargs: Any) -> None:
        self.span_instance = span
        self.kind: Any = None
        self.kept.append(f"{name} {kwargs}")

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def span(self, name: str = "span", **kwargs: Any) -> Span:
        return Span(None, name, **kwargs)

    def start(self) -> None:
        pass

    def finish(self) -> None:
        pass

    def to_header(self) -> dict[str, str]:
        return {"traceparent": "00-1-1-01"}

    def add_attribute(self, key: str, value: object) -> None:
        self.kept.append(f"{key}={value}")

    def set_http_attributes(self, request: Any, response: Any = None) -> None:
        self.kept.append(f"{request!r} {request.url} {dict(request.headers)} {response!r}")

    def get_trace_parent(self) -> str:
        return "00-1-1-01"

    @classmethod
    def link(cls, *args: Any, **kwargs: Any) -> None:
        pass

    @classmethod
    def link_from_headers(cls, *args: Any, **kwargs: Any) -> None:
        pass

    @classmethod
    def get_current_span(cls) -> None:
        return None

    @classmethod
    def get_current_tracer(cls) -> None:
        return None

    @classmethod
    def set_current_span(cls, span: Any) -> None:
        pass

    @classmethod
    def set_current_tracer(cls, tracer: Any) -> None:
        pass

    @classmethod
    def change_context(cls, span: Any) -> Any:
        from contextlib import nullcontext

        return nullcontext()

    @classmethod
    def with_current_context(cls, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def test_no_tracing_span_shows_it(kind: Any, shell: CloudShellEmulator) -> None:
    shell.script(ScriptedReply(200, TOKEN))
    Span.kept.clear()
    azure_settings.tracing_implementation = Span
    try:
        assert kind(endpoint=shell.endpoint).get_token(ARM).token == CANARY
    finally:
        azure_settings.tracing_implementation.unset_value()
    assert any("/oauth2/token" in text for text in Span.kept)
    assert not any(CANARY in text for text in Span.kept)


def test_a_dump_of_all_threads_does_not_show_it(shell: CloudShellEmulator, tmp_path: Path) -> None:
    shell.script(ScriptedReply(200, TOKEN))
    seen: list[str] = []

    def hook(response: Any) -> None:
        with (tmp_path / "dump").open("w+") as file:
            faulthandler.dump_traceback(file)
            file.seek(0)
            seen.append(file.read())

    CloudShellCredential(endpoint=shell.endpoint, raw_response_hook=hook).get_token(ARM)
    assert "make_send" in seen[0] or " in send" in seen[0]
    assert CANARY not in seen[0]


def test_no_argument_or_variable_of_a_process_holds_it(shell: CloudShellEmulator) -> None:
    shell.latency = 0.5
    shell.script(ScriptedReply(200, TOKEN))
    with subprocess.Popen(
        [sys.executable, "-m", "azure_cloudshell_credential", "token"],
        env={**os.environ, **shell.environment},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        while not shell.requests:
            time.sleep(0.01)
        proc = Path(f"/proc/{process.pid}")
        if proc.exists():
            shown = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
            assert CANARY.encode() not in shown
        assert process.communicate()[0] == f"{CANARY}\n"


def test_a_cancelled_task_does_not_show_it(shell: CloudShellEmulator) -> None:
    from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential

    shell.script(ScriptedReply(200, TOKEN, seconds=0.2))
    shown: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: shown.append(repr(context)))
        credential = AsyncCloudShellCredential(endpoint=shell.endpoint)
        task = asyncio.create_task(credential.get_token(ARM))
        await asyncio.sleep(0.05)
        shown.append(repr(asyncio.all_tasks()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.4)

    asyncio.run(main())
    assert shown
    assert not any(CANARY in text for text in shown)
