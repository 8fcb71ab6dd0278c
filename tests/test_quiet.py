"""Before our one paragraph nothing is on the screen: azure-identity's lines about a chain in ours are on our log."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import AzureCliCredential, ChainedTokenCredential

from azure_cloudshell_credential import DefaultCloudShellCredential, aio
from azure_cloudshell_credential._endpoint import clock
from azure_cloudshell_credential.emulator import CloudShellEmulator
from azure_cloudshell_credential.emulator._az_words import REFUSALS
from azure_cloudshell_credential.emulator._isolation import isolated

from .carrying_out import Later
from .command import eventually

UNLISTED = "https://servicebus.azure.net/.default"


class Screen(logging.Handler):
    """What Python shows where nothing is configured: warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def names(self) -> list[str]:
        return [record.name for record in self.records]


@pytest.fixture
def screen() -> Iterator[Screen]:
    handler = Screen()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


@pytest.fixture(scope="module")
def emulator() -> Iterator[CloudShellEmulator]:
    with CloudShellEmulator() as shell:
        yield shell


@pytest.fixture
def shell(emulator: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudShellEmulator]:
    with isolated(emulator):
        yield emulator


def ask(scope: str = UNLISTED, **options: Any) -> None:
    with pytest.raises(ClientAuthenticationError):
        DefaultCloudShellCredential(**options).get_token(scope)


def ask_async() -> None:
    async def asked() -> None:
        with pytest.raises(ClientAuthenticationError):
            await aio.DefaultCloudShellCredential().get_token(UNLISTED)

    asyncio.run(asked())


@pytest.mark.parametrize("ask_for_one", [ask, ask_async])
def test_a_failure_shows_nothing_before_it(
    shell: CloudShellEmulator, screen: Screen, log: Any, ask_for_one: Callable[[], None]
) -> None:
    ask_for_one()
    assert screen.names == []
    # For who looks for it, it is there.
    ours = [line for line in log.lines if line.startswith("azure_cloudshell_credential._azure.quiet ")]
    assert any("Attempted credentials" in line for line in ours)


def test_a_refresh_in_the_background_shows_one_line(
    shell: CloudShellEmulator, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Within the last minutes of its life it is used, and a new one is asked for.
    shell.lifetime = 200
    shell.az_login()
    credential = DefaultCloudShellCredential()
    credential.get_token(UNLISTED)
    shell._programs.refuse(REFUSALS["expired"])
    screen.records.clear()
    monkeypatch.setattr(clock, "current", Later(60))
    credential.get_token(UNLISTED)
    assert eventually(lambda: screen.records)
    assert screen.names == ["azure_cloudshell_credential._tokens.cache"]
    assert "Refresh failed" in screen.records[0].getMessage()


def test_who_asks_azure_identity_meanwhile_keeps_its_warnings(shell: CloudShellEmulator, screen: Screen) -> None:
    count = 12

    def ask_azure_identity() -> None:
        for _ in range(count):
            with pytest.raises(ClientAuthenticationError):
                ChainedTokenCredential(AzureCliCredential()).get_token(UNLISTED)

    theirs = threading.Thread(target=ask_azure_identity, name="theirs")
    theirs.start()
    asked = 0
    while theirs.is_alive():
        ask()
        asked += 1
    theirs.join()
    assert asked
    assert {record.threadName for record in screen.records} == {"theirs"}
    assert len([record for record in screen.records if "Attempted credentials" in record.getMessage()]) == count


def test_half_a_service_principal_is_not_warned_of_at_each_request(
    shell: CloudShellEmulator, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.setenv(name, "x")
    credential = DefaultCloudShellCredential()
    # As DefaultAzureCredential does when it is made.
    assert ["Incomplete environment configuration" in record.getMessage() for record in screen.records] == [True]
    for _ in range(3):
        with pytest.raises(ClientAuthenticationError):
            credential.get_token(UNLISTED)
    assert len(screen.records) == 1


def test_what_az_said_is_one_line_without_a_token_on_our_log_too(
    shell: CloudShellEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    shell.az_fails("ERROR: refused\n\x1b]0;OWNED\x07 " + "A" * 140)
    # The line of azure-identity's own loggers, at DEBUG, is not ours to change.
    with caplog.at_level(logging.DEBUG, logger="azure_cloudshell_credential"), pytest.raises(ClientAuthenticationError):
        DefaultCloudShellCredential().get_token(UNLISTED)
    said = [
        record.getMessage() for record in caplog.records if record.name == "azure_cloudshell_credential._azure.quiet"
    ]
    assert said
    assert all("ERROR: refused" in line and "[redacted]" in line and line.isprintable() for line in said)
