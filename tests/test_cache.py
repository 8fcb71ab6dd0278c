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
    # The same token has come back, with a new time to refresh it.
    clock.advance(31)
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


def test_a_clock_set_back_does_not_make_a_stale_token_fresh(shell: CloudShellEmulator, clock: Clock) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint)
    credential.get_token(ARM)
    clock.steady += 3900 - 299
    credential.get_token(ARM)
    assert len(shell.requests) == 2


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


class StoppedClock:
    """Both clocks, stopped."""

    def __init__(self, mocker: Any) -> None:
        self.wall = 1_800_000_000.0
        self.steady = 500.0
        mocker.patch.object(_cache, "time", lambda: self.wall)
        mocker.patch.object(_cache, "monotonic", lambda: self.steady)


@pytest.fixture
def stopped(mocker: Any) -> StoppedClock:
    return StoppedClock(mocker)


@pytest.mark.parametrize(
    ("wall", "steady", "is_fresh", "is_valid"),
    [
        (0, 0, True, True),
        (3299, 3299, True, True),
        (3300, 0, False, True),
        (0, 3300, False, True),
        (3599, 3599, False, True),
        (3600, 0, False, False),
        (0, 3600, False, False),
    ],
)
def test_each_clock_ends_a_token_on_the_second(
    stopped: StoppedClock, wall: int, steady: int, is_fresh: bool, is_valid: bool
) -> None:
    held = _cache.Held(_protocol.Token("x", 1_800_003_600, None, None))
    stopped.wall += wall
    stopped.steady += steady
    assert (held.is_fresh(), held.is_valid()) == (is_fresh, is_valid)


def test_the_fast_path_ends_on_the_same_second(stopped: StoppedClock) -> None:
    cache = _cache.TokenCache()
    held = _cache.Held(_protocol.Token("x", 1_800_003_600, None, "tenant"))
    cache.remember((ARM,), held)
    assert cache.fresh((ARM,)) is held
    assert cache.fresh((ARM,), "tenant") is held
    assert cache.fresh((ARM,), "another") is None
    assert cache.fresh(("unknown",)) is None
    stopped.wall += 3300
    assert cache.fresh((ARM,)) is None
    stopped.wall -= 3300
    stopped.steady += 3300
    assert cache.fresh((ARM,)) is None


def test_claims_on_a_flight(stopped: StoppedClock) -> None:
    cache = _cache.TokenCache()
    outcome, flight, is_pilot = cache.claim("r", 30)
    assert (outcome, is_pilot) == (None, True)
    assert flight is not None
    assert (flight.resource, flight.deadline) == ("r", 530.0)
    assert cache.claim("r", 30) == (None, flight, False)
    cache.land(flight, _protocol.Token("x", 1_800_003_600, None, None))
    held = flight.done.result()
    assert cache.claim("r", 30) == (held, None, False)
    # Landing twice changes nothing.
    cache.land(flight, None)
    assert flight.done.result() is held
    # Stale: one refreshes, the others keep; then nobody for 30 seconds.
    stopped.wall += 3301
    stopped.steady += 3301
    outcome, refresh, is_pilot = cache.claim("r", 30)
    assert (outcome, is_pilot) == (held, True)
    assert refresh is not None
    assert cache.claim("r", 30) == (held, None, False)
    cache.land(refresh, None)
    assert cache.claim("r", 30) == (held, None, False)
    stopped.steady += 29.9
    assert cache.claim("r", 30) == (held, None, False)
    stopped.steady += 0.1
    assert cache.claim("r", 30)[2]


def test_silence_and_its_end(stopped: StoppedClock) -> None:
    from azure_cloudshell_credential._failures import Failure, no_answer

    cache = _cache.TokenCache()

    def fail() -> None:
        flight = cache.claim("r", 30)[1]
        assert flight is not None
        cache.land(flight, no_answer("r", 30))

    fail()
    stopped.steady += 10
    outcome, flight, _ = cache.claim("other", 30)
    assert flight is None
    assert isinstance(outcome, Failure)
    assert not cache.claim("other", 30)[2]
    assert outcome.message.startswith(
        "The Cloud Shell token endpoint did not answer 10 seconds ago and was not asked again for a token for other; "
        "it will be in 20 seconds."
    )
    stopped.steady += 19.9
    assert cache.claim("other", 30)[1] is None
    stopped.steady += 0.1
    outcome, asked, is_pilot = cache.claim("other", 30)
    assert asked is not None
    assert is_pilot
    # Another time-out while it is silent does not lengthen the silence, and a token ends it.
    second = cache.claim("r", 30)[1]
    assert second is not None
    cache.land(asked, no_answer("other", 30))
    stopped.steady += 5
    cache.land(second, no_answer("r", 30))
    stopped.steady += 25
    third = cache.claim("r", 30)[1]
    assert third is not None
    fourth = cache.claim("other", 30)[1]
    assert fourth is not None
    cache.land(third, no_answer("r", 30))
    assert cache.claim("new", 30)[1] is None
    cache.land(fourth, _protocol.Token("x", 1_800_003_600, None, None))
    assert cache.claim("new", 30)[1] is not None


def test_a_token_of_before_is_no_news(stopped: StoppedClock) -> None:
    token = _protocol.Token("x", 1_800_003_600, None, None)
    first = _cache.Held(token)
    stopped.steady += 100
    again = _cache.Held(token, first)
    assert again.valid_until_monotonic == first.valid_until_monotonic == 4100.0
    assert again.fresh_until_monotonic == 3900.0
    stopped.steady += 3900
    late = _cache.Held(token, first)
    assert late.fresh_until_monotonic == 4100.0
    other = _cache.Held(_protocol.Token("y", 1_800_003_600, None, None), first)
    assert other.valid_until_monotonic == 8100.0
    assert _cache.Held(_protocol.Token("y", 1_800_003_600, 1_800_000_060, None)).fresh_until == 1_800_000_060


def test_an_expired_token_that_comes_back_is_a_failure(stopped: StoppedClock) -> None:
    from azure_cloudshell_credential._failures import Failure

    cache = _cache.TokenCache()
    token = _protocol.Token("x", 1_800_003_600, None, None)
    for expected in (_cache.Held, Failure):
        flight = cache.claim("r", 30)[1]
        assert flight is not None
        cache.land(flight, token)
        assert isinstance(flight.done.result(), expected)
        # The wall clock is set back by as much as time has passed.
        stopped.steady += 3600
    assert flight is not None
    failure = flight.done.result()
    assert isinstance(failure, Failure)
    assert failure.what.endswith("answer for r cannot be used: its token has already expired.")


def test_a_flight_lands_in_a_cache_that_was_emptied(stopped: StoppedClock) -> None:
    cache = _cache.TokenCache()
    flight = cache.claim("r", 30)[1]
    assert flight is not None
    cache._entries.clear()
    cache.land(flight, _protocol.Token("x", 1_800_003_600, None, None))
    assert cache.claim("r", 30)[0] is flight.done.result()


def test_while_a_stale_token_is_refreshed_the_others_keep_it(stopped: StoppedClock) -> None:
    cache = _cache.TokenCache()
    flight = cache.claim("r", 30)[1]
    assert flight is not None
    cache.land(flight, _protocol.Token("x", 1_800_003_600, None, None))
    stopped.wall += 3400
    stopped.steady += 3400
    assert cache.claim("r", 60)[2]
    stopped.steady += 40
    # Past the interval, but the refresh is still under way.
    outcome, under_way, is_pilot = cache.claim("r", 60)
    assert isinstance(outcome, _cache.Held)
    assert (under_way, is_pilot) == (None, False)


def test_the_first_claim_waits_for_nothing_however_young_the_clock(stopped: StoppedClock) -> None:
    stopped.steady = 0.0
    cache = _cache.TokenCache()
    outcome, flight, is_pilot = cache.claim("r", 30)
    assert (outcome, is_pilot) == (None, True)
    assert flight is not None


def test_forgotten_tokens_are_asked_for_again(shell: CloudShellEmulator) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint)
    credential.get_token(ARM)
    _cache.forget_all_tokens()
    credential.get_token(ARM)
    assert len(shell.requests) == 2


def test_a_fork_keeps_tokens_and_drops_flights() -> None:
    cache = _cache.TokenCache()
    _, flight, _ = cache.claim("r", 30)
    assert flight is not None
    mutex = cache._mutex
    mutex.acquire()
    _cache._after_fork()
    assert cache._mutex is not mutex
    assert cache.claim("r", 30)[2]


def test_a_turnstile_lets_one_through_in_order() -> None:
    turnstile = _turnstile.Turnstile()
    first, second, third, fourth = (turnstile.queue_up(30) for _ in range(4))
    assert [place.done() for place in (first, second, third, fourth)] == [True, False, False, False]
    turnstile.leave(third)
    turnstile.leave(first)
    assert second.done()
    assert not fourth.done()
    turnstile.leave(second)
    assert fourth.done()
    turnstile.leave(fourth)
    assert turnstile.queue_up(30).done()


def test_whoever_does_not_come_back_is_passed(mocker: Any) -> None:
    now = 100.0
    mocker.patch.object(_turnstile, "monotonic", lambda: now)
    turnstile = _turnstile.Turnstile()
    lost, waiting = turnstile.queue_up(30), turnstile.queue_up(30)
    now += 30.9
    late = turnstile.queue_up(30)
    assert not late.done()
    now += 0.1
    passing = turnstile.queue_up(30)
    assert passing.done()
    # It comes back after all: the one who has passed it is still through.
    turnstile.leave(lost)
    assert not waiting.done()
    turnstile.leave(passing)
    assert waiting.done()
    assert not late.done()
