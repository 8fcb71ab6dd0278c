"""Tokens and their time, with a clock that the test moves."""

from __future__ import annotations

import json
import logging
import time
from threading import Event
from typing import Any

import pytest
from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import AudienceNotSupportedError, CloudShellCredential
from azure_cloudshell_credential._endpoint import acquisition, failures
from azure_cloudshell_credential._endpoint.failures import Failure
from azure_cloudshell_credential._endpoint.protocol import Token
from azure_cloudshell_credential._tokens import cache
from azure_cloudshell_credential._tokens.cache import CachedToken, TokenCache
from azure_cloudshell_credential._tokens.in_flight import InFlight
from azure_cloudshell_credential.emulator import CloudShellEmulator, ScriptedReply, faults

from .conftest import ARM, VAULT, Everything
from .test_protocol import jwt


class Clock:
    """The wall clock and the monotonic clock; the emulator keeps the real ones."""

    def __init__(self, mocker: Any) -> None:
        from time import monotonic, time

        self.wall = 0.0
        self.monotonic = 0.0
        for module in (cache, acquisition):
            mocker.patch.object(module, "time", lambda: time() + self.wall)
            mocker.patch.object(module, "monotonic", lambda: monotonic() + self.monotonic)
        mocker.patch("azure_cloudshell_credential.emulator._emulator.time", lambda: time() + self.wall)

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def advance_to(self, wall: float) -> None:
        self.advance(wall - time.time() - self.wall)


@pytest.fixture
def clock(mocker: Any) -> Clock:
    return Clock(mocker)


def test_a_fresh_token_is_handed_out_without_asking(kind: Any, shell: CloudShellEmulator, clock: Clock) -> None:
    credential = kind(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    # Counted from the token's own expiry, a whole second: what the test itself has taken so far does not matter.
    clock.advance_to(first.expires_on - 301)
    assert credential.get_token(ARM) == first
    info = credential.get_token_info(ARM)
    assert (info.token, info.expires_on, info.token_type) == (first.token, first.expires_on, "Bearer")
    assert info.refresh_on is None
    assert len(shell.requests) == 1


def test_a_stale_token_is_requested_every_30_seconds(kind: Any, shell: CloudShellEmulator, clock: Clock) -> None:
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
    assert any("Refresh failed; keeping the current token until it expires" in line for line in log.lines)


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
def test_a_clock_set_back_does_not_keep_an_old_token_fresh(
    kind: Any, shell: CloudShellEmulator, clock: Clock, jump: float
) -> None:
    credential = kind(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    clock.advance(3901)
    clock.wall += jump
    shell.revoke_tokens()
    assert credential.get_token(ARM) != first


def test_what_the_endpoint_hands_out_is_judged_by_the_wall_clock_alone(
    kind: Any, shell: CloudShellEmulator, clock: Clock
) -> None:
    # The clock is 40 minutes ahead when the token comes, and is put right.
    shell.script(ScriptedReply(200, json.dumps({"access_token": "x", "expires_on": str(int(time.time()) + 3600)})))
    clock.wall += 2400
    credential = kind(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    clock.wall -= 2400
    # As far as the monotonic clock knows it expires in 20 minutes, and is asked for again; the same one comes back.
    clock.advance(1300)
    shell.script(ScriptedReply(200, json.dumps({"access_token": "x", "expires_on": str(int(first.expires_on))})))
    assert credential.get_token(ARM) == first
    assert len(shell.requests) == 2
    clock.advance(1000)
    assert credential.get_token(ARM) == first
    assert len(shell.requests) == 2


def test_a_clock_set_back_does_not_make_a_stale_token_fresh(shell: CloudShellEmulator, clock: Clock) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint)
    credential.get_token(ARM)
    clock.monotonic += 3900 - 299
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
        with pytest.raises(CredentialUnavailableError, match="requests are suspended"):
            credential.get_token(scope)
    assert len(shell.requests) == 1
    clock.advance(31)
    assert credential.get_token(ARM).token


def test_a_stale_token_outlives_an_endpoint_that_hangs(shell: CloudShellEmulator, clock: Clock) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint, timeout=0.2)
    first = credential.get_token(ARM)
    clock.advance(3900 - 299)
    shell.script(faults.hang())
    assert credential.get_token(ARM) == first
    assert credential.get_token(ARM) == first
    assert len(shell.requests) == 2


def test_the_cache_key_is_what_was_asked_for(kind: Any, shell: CloudShellEmulator) -> None:
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


def test_the_fast_path_claims_nothing_and_logs_nothing(
    kind: Any, shell: CloudShellEmulator, log: Everything, mocker: Any
) -> None:
    credential = kind(endpoint=shell.endpoint)
    credential.get_token(ARM)
    cache = credential.credential._cache
    mocker.patch.object(cache, "claim", None)
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


def test_a_refused_audience_is_not_asked_for_again_for_ten_minutes(
    kind: Any, shell: CloudShellEmulator, clock: Clock
) -> None:
    shell.audiences = ["https://vault.azure.net"]
    credential = kind(endpoint=shell.endpoint)
    for _ in range(5):
        with pytest.raises(AudienceNotSupportedError, match="does not issue tokens"):
            credential.get_token(ARM)
    assert credential.get_token(VAULT).token
    assert len(shell.requests) == 2
    clock.advance(601)
    with pytest.raises(AudienceNotSupportedError):
        credential.get_token(ARM)
    assert len(shell.requests) == 3


def test_a_refusal_ends_with_a_token(shell: CloudShellEmulator, clock: Clock) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    shell.deny(ARM)
    clock.advance(3900 - 200)
    # Refused while the current token is valid: that is a refresh that failed.
    assert credential.get_token(ARM) == first
    shell.allow(ARM)
    clock.advance(300)
    assert credential.get_token(ARM) != first


def test_what_the_emulator_allows_again_can_be_had_at_once(kind: Any, shell: CloudShellEmulator) -> None:
    shell.deny("https://management.azure.com")
    credential = kind(endpoint=shell.endpoint)
    with pytest.raises(AudienceNotSupportedError):
        credential.get_token(ARM)
    shell.allow("https://management.azure.com")
    assert credential.get_token(ARM).token


class StoppedClock:
    """Both clocks, stopped."""

    def __init__(self, mocker: Any) -> None:
        self.wall = 1_800_000_000.0
        self.monotonic = 500.0
        mocker.patch.object(cache, "time", lambda: self.wall)
        mocker.patch.object(cache, "monotonic", lambda: self.monotonic)


@pytest.fixture
def stopped(mocker: Any) -> StoppedClock:
    return StoppedClock(mocker)


@pytest.mark.parametrize(
    ("wall", "monotonic", "is_fresh", "is_valid"),
    [
        (0, 0, True, True),
        (3299, 3299, True, True),
        (3300, 0, False, True),
        (0, 3300, False, True),
        (3599, 3599, False, True),
        (3600, 0, False, False),
        (0, 36000, False, True),
    ],
)
def test_the_wall_clock_ends_a_token_and_either_clock_its_freshness(
    stopped: StoppedClock, wall: int, monotonic: int, is_fresh: bool, is_valid: bool
) -> None:
    cached = CachedToken(Token("x", 1_800_003_600))
    stopped.wall += wall
    stopped.monotonic += monotonic
    assert (cached.is_fresh(), cached.is_valid()) == (is_fresh, is_valid)


def test_a_refresh_time_is_kept_on_both_clocks(stopped: StoppedClock) -> None:
    cached = CachedToken(Token("x", 1_800_003_600, 1_800_000_060))
    assert (cached.fresh_until, cached.fresh_until_monotonic) == (1_800_000_060, 560.0)


class Acquired:
    """An acquisition that ends when the test says so, and never runs by itself."""

    def __init__(self, cache: TokenCache, mocker: Any) -> None:
        self.cache = cache
        mocker.patch.object(InFlight, "start", lambda in_flight: None)

    def claim(self, resource: str = "r", **options: Any) -> CachedToken | Failure | InFlight:
        return self.cache.claim(resource, lambda: pytest.fail("acquired"), **options)

    def begin(self, resource: str = "r") -> InFlight:
        in_flight = self.claim(resource)
        assert isinstance(in_flight, InFlight)
        return in_flight


def token(value: str = "x", expires_on: int = 1_800_003_600, tenant_id: str | None = None) -> Token:
    return Token(jwt(tid=tenant_id) if tenant_id else value, expires_on)


@pytest.fixture
def acquired(mocker: Any, stopped: StoppedClock) -> Acquired:
    return Acquired(TokenCache(30), mocker)


def test_the_fast_path_ends_on_the_same_second(stopped: StoppedClock, acquired: Acquired) -> None:
    cache = acquired.cache
    acquired.begin().end(token(tenant_id="tenant"))
    assert cache.fresh((ARM,)) is None
    cache.remember((ARM,), "r")
    cache.remember((VAULT,), "never asked for")
    cached = cache.fresh((ARM,))
    assert cached is not None
    assert cache.fresh((ARM,), "tenant") is cached
    assert cache.fresh((ARM,), "another") is None
    assert cache.fresh((VAULT,)) is None
    assert cache.fresh([ARM]) is None  # type: ignore[arg-type] # what cannot be a key is no error here
    stopped.wall += 3300
    assert cache.fresh((ARM,)) is None
    stopped.wall -= 3300
    stopped.monotonic += 3300
    assert cache.fresh((ARM,)) is None


def test_one_acquisition_for_all_who_ask_meanwhile(stopped: StoppedClock, acquired: Acquired) -> None:
    in_flight = acquired.begin()
    assert acquired.claim() is in_flight
    assert acquired.begin("another") is not in_flight
    in_flight.end(token())
    cached = in_flight.outcome()
    assert isinstance(cached, CachedToken)
    assert acquired.claim() is cached
    # Ending twice changes nothing.
    in_flight.end(token("y"))
    assert in_flight.outcome() is cached
    assert acquired.claim() is cached


def test_a_stale_token_is_refreshed_by_one_and_kept_by_the_others(stopped: StoppedClock, acquired: Acquired) -> None:
    acquired.begin().end(token())
    cached = acquired.claim()
    stopped.wall += 3301
    stopped.monotonic += 3301
    refresh = acquired.begin()
    assert acquired.claim() is cached
    stopped.monotonic += 40
    # Past the delay, but the refresh is still under way.
    assert acquired.claim() is cached
    refresh.end(failures.unreachable("r", "refused"))
    assert refresh.outcome() is cached
    stopped.monotonic += 29.9
    assert isinstance(acquired.claim(), InFlight)


def test_a_failed_refresh_is_tried_again_after_30_seconds(stopped: StoppedClock, acquired: Acquired) -> None:
    acquired.begin().end(token())
    cached = acquired.claim()
    stopped.wall += 3301
    stopped.monotonic += 3301
    acquired.begin().end(KeyError("a hook's"))
    stopped.monotonic += 29.9
    assert acquired.claim() is cached
    stopped.monotonic += 0.1
    assert isinstance(acquired.claim(), InFlight)


def test_the_circuit_opens_and_closes(stopped: StoppedClock, acquired: Acquired) -> None:
    acquired.begin().end(failures.no_answer("r", 30))
    stopped.monotonic += 10
    failure = acquired.claim("other")
    assert isinstance(failure, Failure)
    assert failure.message.startswith(
        "The Cloud Shell token endpoint timed out 10 seconds ago; requests are suspended for another 20 seconds, "
        "this one for other included."
    )
    stopped.monotonic += 19.9
    assert isinstance(acquired.claim("other"), Failure)
    stopped.monotonic += 0.1
    other, again = acquired.begin("other"), acquired.begin()
    # Another timeout while the circuit is open does not keep it open for longer.
    other.end(failures.no_answer("other", 30))
    stopped.monotonic += 5
    again.end(failures.no_answer("r", 30))
    stopped.monotonic += 25
    third, fourth = acquired.begin("third"), acquired.begin("fourth")
    third.end(failures.no_answer("third", 30))
    assert isinstance(acquired.claim("new"), Failure)
    # A token closes it.
    fourth.end(token())
    assert isinstance(acquired.claim("new"), InFlight)


def test_an_acquisition_that_ended_between_two_looks_is_not_repeated(
    stopped: StoppedClock, acquired: Acquired, mocker: Any
) -> None:
    first = acquired.begin()
    cache = acquired.cache
    make = cache._new

    def end_the_first_meanwhile(*arguments: Any) -> Any:
        first.end(token())
        return make(*arguments)

    cache._in_flight.clear()
    mocker.patch.object(cache, "_new", end_the_first_meanwhile)
    cached = acquired.claim()
    assert isinstance(cached, CachedToken)
    assert cache._in_flight == {}


def test_a_claims_challenge_is_always_asked_for_and_replaces_the_token(
    stopped: StoppedClock, acquired: Acquired
) -> None:
    acquired.begin().end(token())
    flights = [acquired.claim(must_ask=True) for _ in range(2)]
    assert isinstance(flights[0], InFlight)
    assert isinstance(flights[1], InFlight)
    assert flights[0] is not flights[1]
    flights[0].end(token("better"))
    cached = acquired.claim()
    assert isinstance(cached, CachedToken)
    assert cached.token.value == "better"


def test_an_acquisition_ends_in_a_cache_that_was_emptied(stopped: StoppedClock, acquired: Acquired) -> None:
    acquired.begin().end(token("old"))
    acquired.cache.remember((ARM,), "r")
    stopped.wall += 3301
    stopped.monotonic += 3301
    late = acquired.begin()
    acquired.cache.forget_tokens()
    late.end(token("late"))
    # Those who waited have it; nobody who comes later has.
    assert isinstance(late.outcome(), CachedToken)
    assert acquired.cache.fresh((ARM,)) is None
    assert isinstance(acquired.claim(), InFlight)


def test_the_first_claim_waits_for_nothing_however_young_the_clock(stopped: StoppedClock, acquired: Acquired) -> None:
    stopped.monotonic = 0.0
    assert isinstance(acquired.claim(), InFlight)


def test_forgotten_tokens_are_asked_for_again_by_every_credential(shell: CloudShellEmulator) -> None:
    credentials = [CloudShellCredential(endpoint=shell.endpoint) for _ in range(3)]
    for credential in credentials:
        credential.get_token(ARM)
    cache.forget_all_tokens()
    for credential in credentials:
        credential.get_token(ARM)
    assert len(shell.requests) == 6


def test_a_fork_keeps_tokens_and_drops_acquisitions(stopped: StoppedClock, acquired: Acquired) -> None:
    acquired.begin("held").end(token())
    in_flight = acquired.begin()
    cache._after_fork()
    assert isinstance(acquired.claim("held"), CachedToken)
    assert acquired.begin() is not in_flight


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration])
def test_what_would_end_a_thread_becomes_a_failure(
    stopped: StoppedClock, acquired: Acquired, error: type[BaseException]
) -> None:
    in_flight = acquired.begin()
    in_flight.end(error())
    failure = in_flight.outcome()
    assert isinstance(failure, Failure)
    assert failure.resource == "r"
    assert failure.what == (f"The token request for r was broken off: a hook or the transport raised {error.__name__}.")


def test_any_other_exception_is_passed_on(stopped: StoppedClock, acquired: Acquired) -> None:
    in_flight, error = acquired.begin(), KeyError("a hook's")
    in_flight.end(error)
    with pytest.raises(KeyError) as raised:
        in_flight.outcome()
    assert raised.value is error
    assert acquired.begin() is not in_flight


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (failures.unreachable("r", "refused"), failures.unreachable("r", "refused").message),
        (KeyError("secret"), "KeyError"),
        (SystemExit(), failures.broken_off("r", "SystemExit").message),
    ],
)
def test_a_failed_refresh_is_logged_once_in_these_words(
    stopped: StoppedClock, acquired: Acquired, caplog: pytest.LogCaptureFixture, outcome: Any, said: str
) -> None:
    acquired.begin().end(token())
    stopped.wall += 3301
    stopped.monotonic += 3301
    acquired.begin().end(outcome)
    (record,) = [record for record in caplog.records if record.name == "azure_cloudshell_credential._tokens.cache"]
    assert record.levelname == "WARNING"
    assert record.getMessage() == f"Refresh failed; keeping the current token until it expires: {said}"


def test_those_who_found_an_acquisition_that_was_not_needed_have_the_token_too(
    stopped: StoppedClock, acquired: Acquired, mocker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cache, made = acquired.cache, []
    make = cache._new

    def make_and_end_another(entry: Any, *arguments: Any) -> Any:
        made.append(make(entry, *arguments))
        entry.cached = CachedToken(token("newer"))
        return made[0]

    mocker.patch.object(cache, "_new", make_and_end_another)
    claimed = acquired.claim()
    assert isinstance(claimed, CachedToken)
    assert made[0].outcome().token.value == "newer"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert cache._in_flight == {}


def run_to_its_end(claimed: object) -> Any:
    assert isinstance(claimed, InFlight)
    claimed.wait()
    return claimed.outcome()


def test_an_acquisition_that_takes_too_long_fails_for_those_who_wait() -> None:
    release = Event()
    cache = TokenCache(0.1)
    try:
        failure = run_to_its_end(cache.claim("r", lambda: (release.wait(20) and token()) or token()))
    finally:
        release.set()
    assert isinstance(failure, Failure)
    assert failure.what == (
        "The Cloud Shell token endpoint did not answer within 0.1 seconds when asked for a token for r."
    )


def test_whoever_acquires_cannot_wait_for_it() -> None:
    cache = TokenCache(10)
    nested: list[Any] = []

    def acquire() -> Token:
        nested.append(cache.claim("r", acquire))
        return token("x", int(time.time()) + 3600)

    assert isinstance(run_to_its_end(cache.claim("r", acquire)), CachedToken)
    (failure,) = nested
    assert failure.kind == "nested"
    assert failure.what.startswith("A token for r was requested from inside another token request")


def test_a_claims_challenge_is_asked_for_by_the_caller_own_question() -> None:
    cache = TokenCache(None)
    expires = int(time.time()) + 3600
    run_to_its_end(cache.claim("r", lambda: token("first", expires)))
    better = run_to_its_end(cache.claim("r", lambda: token("better", expires), must_ask=True))
    assert better.token.value == "better"
    assert cache.claim("r", lambda: pytest.fail("asked")) is better
    failure = run_to_its_end(cache.claim("s", lambda: (_ for _ in ()).throw(SystemExit), must_ask=True))
    assert failure.what.startswith("The token request for s was broken off")


def test_while_the_interpreter_shuts_down_the_caller_asks(mocker: Any) -> None:
    cache = TokenCache(10)
    release = Event()
    lost = cache.claim("r", lambda: (release.wait(20) and token()) or token())
    mocker.patch("sys.is_finalizing", lambda: True)
    try:
        found = cache.claim("r", lambda: token("mine", int(time.time()) + 3600))
        assert found is not lost
        assert isinstance(found, InFlight)
        assert found.is_done()
        assert found.outcome().token.value == "mine"
        cache.forget_tokens()
        # What a signal handler raises there is the caller's own.
        with pytest.raises(SystemExit):
            cache.claim("r", lambda: (_ for _ in ()).throw(SystemExit))
        broken = cache.claim("r", lambda: next(iter([])))
        assert isinstance(broken, InFlight)
        assert broken.outcome().what.startswith("The token request for r was broken off")
    finally:
        release.set()


def test_who_may_not_wait_gets_the_stale_token_or_is_told_why_there_is_none() -> None:
    cache = TokenCache(5)
    refused = cache.claim("r", lambda: pytest.fail("asked"), may_wait=False)
    assert isinstance(refused, Failure)
    assert refused.kind == "nested"
    assert refused.what.startswith("A token for r was requested")
    stale = run_to_its_end(cache.claim("r", lambda: token("stale", int(time.time()) + 60)))
    cache._entries["r"].refresh_from = 0.0
    assert cache.claim("r", lambda: pytest.fail("asked"), may_wait=False) is stale


def test_while_one_is_under_way_no_other_is_made() -> None:
    cache = TokenCache(5)
    release = Event()
    first = cache.claim("r", lambda: (release.wait(20) and token()) or token())
    made: list[Any] = []
    new = cache._new
    cache._new = lambda *given: made.append(new(*given)) or made[-1]  # type: ignore[method-assign,func-returns-value]
    assert cache.claim("r", token) is first
    assert made == []
    release.set()
