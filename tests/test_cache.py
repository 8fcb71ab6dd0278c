"""Tokens and their time, with a clock that the test moves."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import CloudShellCredential, _base, _cache, _protocol, _turnstile
from azure_cloudshell_credential.emulator import CloudShellEmulator, faults

from .conftest import ARM, Everything

VAULT = "https://vault.azure.net/.default"


class Clock:
    """The wall clock and the monotonic clock; the emulator keeps the real ones."""

    def __init__(self, mocker: Any) -> None:
        from time import monotonic, time

        self.wall = 0.0
        self.steady = 0.0
        for module in (_cache, _protocol):
            mocker.patch.object(module, "time", lambda: time() + self.wall)
            mocker.patch.object(module, "monotonic", lambda: monotonic() + self.steady)
        mocker.patch.object(_base, "monotonic", lambda: monotonic() + self.steady)
        mocker.patch("azure_cloudshell_credential.emulator._emulator.time", lambda: time() + self.wall)

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def clock(mocker: Any) -> Clock:
    return Clock(mocker)


def test_a_fresh_token_is_handed_out_without_asking(kind: Any, shell: CloudShellEmulator, clock: Clock) -> None:
    credential = kind(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    clock.advance(3900 - 301)
    assert credential.get_token(ARM) == first
    info = credential.get_token_info(ARM)
    assert (info.token, info.expires_on, info.token_type) == (first.token, first.expires_on, "Bearer")
    assert info.refresh_on is None
    assert len(shell.requests) == 1


def test_a_stale_token_is_asked_for_every_30_seconds(kind: Any, shell: CloudShellEmulator, clock: Clock) -> None:
    credential = kind(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    clock.advance(3900 - 299)
    for _ in range(5):
        # The endpoint caches until expiry: the same token comes back.
        assert credential.get_token(ARM) == first
    assert len(shell.requests) == 2
    clock.advance(29)
    credential.get_token(ARM)
    assert len(shell.requests) == 2
    clock.advance(2)
    shell.revoke_tokens()
    assert credential.get_token(ARM) != first
    assert len(shell.requests) == 3


def test_each_resource_is_refreshed_on_its_own(shell: CloudShellEmulator, clock: Clock) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint)
    credential.get_token(ARM)
    credential.get_token(VAULT)
    clock.advance(3900 - 299)
    credential.get_token(ARM)
    credential.get_token(VAULT)
    assert [asked.resource for asked in shell.requests[2:]] == [
        "https://management.azure.com",
        "https://vault.azure.net",
    ]


def test_a_failed_refresh_keeps_the_token_and_is_logged(
    kind: Any, shell: CloudShellEmulator, clock: Clock, log: Everything
) -> None:
    credential = kind(endpoint=shell.endpoint, retry_total=0)
    first = credential.get_token(ARM)
    clock.advance(3900 - 299)
    shell.script(faults.server_error(500))
    assert credential.get_token(ARM) == first
    assert any("Kept the current token, whose early refresh failed" in line for line in log.lines)


def test_after_expiry_a_failure_is_raised(kind: Any, shell: CloudShellEmulator, clock: Clock) -> None:
    credential = kind(endpoint=shell.endpoint, retry_total=0)
    credential.get_token(ARM)
    clock.advance(3900)
    shell.script(faults.server_error(500))
    with pytest.raises(CredentialUnavailableError):
        credential.get_token(ARM)
    assert credential.get_token(ARM).token


def test_long_lived_tokens_are_refreshed_at_half_life(kind: Any, shell: CloudShellEmulator, clock: Clock) -> None:
    shell.lifetime = 28800
    credential = kind(endpoint=shell.endpoint)
    info = credential.get_token_info(ARM)
    assert info.refresh_on == info.expires_on - 14400
    clock.advance(14399)
    credential.get_token(ARM)
    assert len(shell.requests) == 1
    clock.advance(2)
    credential.get_token(ARM)
    assert len(shell.requests) == 2


def test_a_token_with_less_than_the_margin_left_is_handed_out(shell: CloudShellEmulator, clock: Clock) -> None:
    shell.lifetime = 60
    credential = CloudShellCredential(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    assert credential.get_token(ARM) == first
    assert len(shell.requests) == 1


@pytest.mark.parametrize("jump", [-7200, -86400 * 365])
def test_a_clock_set_back_does_not_make_an_expired_token_fresh(
    kind: Any, shell: CloudShellEmulator, clock: Clock, jump: float
) -> None:
    credential = kind(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    clock.advance(3901)
    clock.wall += jump
    # By the clock that was set back, the endpoint's cached token is still good.
    with pytest.raises(CredentialUnavailableError, match="already expired"):
        credential.get_token(ARM)
    shell.revoke_tokens()
    assert credential.get_token(ARM) != first


def test_a_clock_set_forward_ends_a_token(shell: CloudShellEmulator, clock: Clock) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    clock.wall += 3901
    assert credential.get_token(ARM) != first


def test_after_a_timeout_the_endpoint_is_left_alone_for_30_seconds(
    kind: Any, shell: CloudShellEmulator, clock: Clock
) -> None:
    shell.script(faults.hang())
    credential = kind(endpoint=shell.endpoint, timeout=0.2)
    with pytest.raises(CredentialUnavailableError, match=r"did not answer within 0\.2 seconds"):
        credential.get_token(ARM)
    for scope in (ARM, VAULT):
        with pytest.raises(CredentialUnavailableError, match="was not asked again"):
            credential.get_token(scope)
    assert len(shell.requests) == 1
    clock.advance(31)
    assert credential.get_token(ARM).token


def test_a_stale_token_outlives_a_silent_endpoint(shell: CloudShellEmulator, clock: Clock) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint, timeout=0.2)
    first = credential.get_token(ARM)
    clock.advance(3900 - 299)
    shell.script(faults.hang())
    assert credential.get_token(ARM) == first
    assert credential.get_token(ARM) == first
    assert len(shell.requests) == 2


def test_the_cache_key_is_what_was_asked_for(kind: Any, shell: CloudShellEmulator) -> None:
    import json
    import time

    from azure_cloudshell_credential.emulator import ScriptedReply

    content = {"access_token": "x", "expires_in": "3600", "resource": "https://management.core.windows.net/"}
    shell.script(ScriptedReply(200, json.dumps(content)))
    credential = kind(endpoint=shell.endpoint)
    assert credential.get_token(ARM).expires_on <= time.time() + 3600
    assert credential.get_token(ARM).token == "x"
    assert len(shell.requests) == 1


def test_spellings_of_a_scope_share_their_resource(shell: CloudShellEmulator) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint)
    tokens = {credential.get_token(scope) for scope in (ARM, "https://management.azure.com")}
    assert len(tokens) == 1
    assert len(shell.requests) == 1
    credential.get_token("https://management.azure.com//.default")
    assert shell.requests[1].resource == "https://management.azure.com/"


def test_the_fast_path_takes_no_lock_and_logs_nothing(
    kind: Any, shell: CloudShellEmulator, log: Everything, mocker: Any
) -> None:
    credential = kind(endpoint=shell.endpoint)
    credential.get_token(ARM)
    cache = credential.credential._cache
    mocker.patch.object(cache, "_mutex", None)
    before = [line for line in log.lines if "cloudshell" in line]
    credential.get_token(ARM)
    credential.get_token_info(ARM)
    assert [line for line in log.lines if "cloudshell" in line] == before


def test_get_token_info_returns_an_object_of_the_callers_own(shell: CloudShellEmulator) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint)
    info = credential.get_token_info(ARM)
    info.token = "changed"
    assert credential.get_token_info(ARM).token != "changed"


def test_the_log_names_the_resource(shell: CloudShellEmulator, log: Everything) -> None:
    CloudShellCredential(endpoint=shell.endpoint).get_token(ARM)
    assert any("Got a token for https://management.azure.com from Cloud Shell" in line for line in log.lines)
    assert logging.getLogger("azure_cloudshell_credential").level == logging.NOTSET


def test_a_turnstile_lets_one_through_in_order() -> None:
    turnstile = _turnstile.Turnstile()
    first, second, third, fourth = (turnstile.queue_up() for _ in range(4))
    assert [place.done() for place in (first, second, third, fourth)] == [True, False, False, False]
    turnstile.leave(third)
    turnstile.leave(first)
    assert second.done()
    assert not fourth.done()
    turnstile.leave(second)
    assert fourth.done()
    turnstile.leave(fourth)
    assert turnstile.queue_up().done()
