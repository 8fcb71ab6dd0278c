"""Tokens and their time, with a clock that the test moves."""

from __future__ import annotations

import gc
import json
import logging
import threading
import time
import traceback
from threading import Event
from typing import Any

import pytest
from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import AudienceNotSupportedError, CloudShellCredential
from azure_cloudshell_credential._endpoint.failures import Failure, broken_off, unreachable
from azure_cloudshell_credential._endpoint.scopes import TokenRequest
from azure_cloudshell_credential._endpoint.token import Token
from azure_cloudshell_credential._tokens import cache as cache_module
from azure_cloudshell_credential._tokens import in_flight as in_flight_module
from azure_cloudshell_credential._tokens.cache import Acquisition, CachedToken, TokenCache
from azure_cloudshell_credential._tokens.in_flight import InFlight
from azure_cloudshell_credential.emulator import CloudShellEmulator, ScriptedReply, faults

from .clocks import ShiftedClock, StoppedClock, wait_until
from .conftest import ARM, VAULT, Everything
from .test_protocol import jwt


def settled(credential: Any) -> bool:
    """Whether no acquisition of a credential's is in flight."""
    return not getattr(credential, "credential", credential)._cache.in_flight


@pytest.fixture
def clock(mocker: Any) -> ShiftedClock:
    return ShiftedClock(mocker)


def test_a_fresh_token_is_handed_out_without_asking(kind: Any, shell: CloudShellEmulator, clock: ShiftedClock) -> None:
    credential = kind(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    # Counted from the token's own expiry, a whole second: what the test itself has taken so far does not matter.
    clock.advance_to(first.expires_on - 301)
    assert credential.get_token(ARM) == first
    info = credential.get_token_info(ARM)
    assert (info.token, info.expires_on, info.token_type) == (first.token, first.expires_on, "Bearer")
    assert info.refresh_on is None
    assert len(shell.requests) == 1


def test_a_stale_token_is_requested_every_30_seconds(kind: Any, shell: CloudShellEmulator, clock: ShiftedClock) -> None:
    credential = kind(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    clock.advance(3900 - 299)
    for _ in range(5):
        # The endpoint caches until expiry: the same token comes back.
        assert credential.get_token(ARM) == first
    wait_until(lambda: settled(credential))
    assert len(shell.requests) == 2
    clock.advance(29)
    credential.get_token(ARM)
    assert settled(credential)
    assert len(shell.requests) == 2
    clock.advance(2)
    shell.revoke_tokens()
    wait_until(lambda: credential.get_token(ARM) != first)
    assert len(shell.requests) == 3


def test_the_caller_who_starts_a_refresh_does_not_wait_for_it(
    kind: Any, shell: CloudShellEmulator, clock: ShiftedClock
) -> None:
    credential = kind(endpoint=shell.endpoint, timeout=20)
    first = credential.get_token(ARM)
    clock.advance(3900 - 200)
    shell.script(faults.hang(1))
    start = time.monotonic()
    assert credential.get_token(ARM) == first
    assert time.monotonic() - start < 0.9
    wait_until(lambda: settled(credential))
    assert len(shell.requests) == 2


def test_each_resource_is_refreshed_on_its_own(shell: CloudShellEmulator, clock: ShiftedClock) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint)
    credential.get_token(ARM)
    credential.get_token(VAULT)
    clock.advance(3900 - 299)
    credential.get_token(ARM)
    credential.get_token(VAULT)
    wait_until(lambda: settled(credential))
    assert {asked.resource for asked in shell.requests[2:]} == {
        "https://management.azure.com",
        "https://vault.azure.net",
    }


def test_a_failed_refresh_keeps_the_token_and_is_logged(
    kind: Any, shell: CloudShellEmulator, clock: ShiftedClock, log: Everything
) -> None:
    credential = kind(endpoint=shell.endpoint, retry_total=0)
    first = credential.get_token(ARM)
    clock.advance(3900 - 299)
    shell.script(faults.server_error(500))
    assert credential.get_token(ARM) == first
    wait_until(lambda: settled(credential))
    assert credential.get_token(ARM) == first
    assert any("Refresh failed; keeping the current token until it expires" in line for line in log.lines)


def test_after_expiry_a_failure_is_raised(kind: Any, shell: CloudShellEmulator, clock: ShiftedClock) -> None:
    credential = kind(endpoint=shell.endpoint, retry_total=0)
    credential.get_token(ARM)
    clock.advance(3900)
    shell.script(faults.server_error(500))
    with pytest.raises(CredentialUnavailableError):
        credential.get_token(ARM)
    assert credential.get_token(ARM).token


def test_long_lived_tokens_are_refreshed_at_half_life(
    kind: Any, shell: CloudShellEmulator, clock: ShiftedClock
) -> None:
    shell.lifetime = 28800
    credential = kind(endpoint=shell.endpoint)
    info = credential.get_token_info(ARM)
    assert info.refresh_on == info.expires_on - 14400
    clock.advance(14399)
    credential.get_token(ARM)
    assert len(shell.requests) == 1
    clock.advance(2)
    credential.get_token(ARM)
    wait_until(lambda: settled(credential))
    assert len(shell.requests) == 2
    # The same token has come back, with a new time to refresh it.
    clock.advance(31)
    credential.get_token(ARM)
    assert settled(credential)
    assert len(shell.requests) == 2


def test_a_token_with_less_than_the_margin_left_is_handed_out(shell: CloudShellEmulator, clock: ShiftedClock) -> None:
    shell.lifetime = 60
    credential = CloudShellCredential(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    assert credential.get_token(ARM) == first
    assert len(shell.requests) == 1


@pytest.mark.parametrize("jump", [-7200, -86400 * 365])
def test_a_clock_set_back_does_not_keep_an_old_token_fresh(
    kind: Any, shell: CloudShellEmulator, clock: ShiftedClock, jump: float
) -> None:
    credential = kind(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    clock.advance(3901)
    clock.wall += jump
    shell.revoke_tokens()
    wait_until(lambda: credential.get_token(ARM) != first)


def test_what_the_endpoint_hands_out_is_judged_by_the_wall_clock_alone(
    kind: Any, shell: CloudShellEmulator, clock: ShiftedClock
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
    wait_until(lambda: settled(credential))
    assert len(shell.requests) == 2
    clock.advance(1000)
    assert credential.get_token(ARM) == first
    assert settled(credential)
    assert len(shell.requests) == 2


def test_a_clock_set_back_does_not_make_a_stale_token_fresh(shell: CloudShellEmulator, clock: ShiftedClock) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint)
    credential.get_token(ARM)
    clock.ticks += 3900 - 299
    credential.get_token(ARM)
    wait_until(lambda: len(shell.requests) == 2)


def test_a_clock_set_forward_ends_a_token(shell: CloudShellEmulator, clock: ShiftedClock) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    clock.wall += 3901
    assert credential.get_token(ARM) != first


def test_after_a_timeout_the_endpoint_is_left_alone_for_30_seconds(
    kind: Any, shell: CloudShellEmulator, clock: ShiftedClock
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


def test_a_stale_token_outlives_an_endpoint_that_hangs(shell: CloudShellEmulator, clock: ShiftedClock) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint, timeout=0.2)
    first = credential.get_token(ARM)
    clock.advance(3900 - 299)
    shell.script(faults.hang())
    assert credential.get_token(ARM) == first
    wait_until(lambda: settled(credential))
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
    mocker.patch.object(credential.credential, "_begin", None)
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


def test_a_refused_audience_is_asked_for_again_the_next_time(kind: Any, shell: CloudShellEmulator) -> None:
    shell.audiences = ["https://vault.azure.net"]
    credential = kind(endpoint=shell.endpoint)
    for _ in range(2):
        with pytest.raises(AudienceNotSupportedError, match="does not issue tokens"):
            credential.get_token(ARM)
    assert credential.get_token(VAULT).token
    assert len(shell.requests) == 3


def test_a_refusal_while_the_token_is_valid_is_a_refresh_that_failed(
    shell: CloudShellEmulator, clock: ShiftedClock
) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint)
    first = credential.get_token(ARM)
    shell.deny(ARM)
    clock.advance(3900 - 200)
    assert credential.get_token(ARM) == first
    wait_until(lambda: settled(credential))
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
    cache = TokenCache(30, lambda in_flight: in_flight.end(Token("x", 1_800_003_600)))
    cache.begin("r", TokenRequest(("r",), {}), lambda: pytest.fail("acquired"))
    assert (cached := cache.fresh("r")) is not None
    stopped.wall += wall
    stopped.ticks += monotonic
    assert (cache.fresh("r") is cached, cached.is_valid()) == (is_fresh, is_valid)


def test_a_refresh_time_is_kept_on_both_clocks(stopped: StoppedClock) -> None:
    cached = CachedToken(Token("x", 1_800_003_600, 1_800_000_060))
    assert (cached.fresh_until, cached.fresh_until_monotonic) == (1_800_000_060, 560.0)


class Acquired:
    """Acquisitions that end when the test says so, and never run by themselves."""

    def __init__(self) -> None:
        self.started: list[InFlight] = []
        self.cache = TokenCache(30, self.started.append)

    def get(self, resource: str = "r", scope: str = "", **options: Any) -> CachedToken | Failure | InFlight:
        request = TokenRequest((scope or resource,), options)
        return self.cache.begin(resource, request, lambda: pytest.fail("acquired"))

    def begin(self, resource: str = "r", **options: Any) -> InFlight:
        in_flight = self.get(resource, **options)
        assert isinstance(in_flight, InFlight)
        return in_flight

    def refresh(self, resource: str = "r") -> InFlight:
        """The attempt to replace a stale token that a claim starts in the background."""
        before = len(self.started)
        assert isinstance(self.get(resource), CachedToken)
        (in_flight,) = self.started[before:]
        return in_flight


def token(value: str = "x", expires_on: int = 1_800_003_600, tenant_id: str | None = None) -> Token:
    return Token(jwt(tid=tenant_id) if tenant_id else value, expires_on)


@pytest.fixture
def acquired(stopped: StoppedClock) -> Acquired:
    return Acquired()


def test_the_fast_path_ends_on_the_same_second(stopped: StoppedClock, acquired: Acquired) -> None:
    cache = acquired.cache
    acquired.begin(scope=ARM).end(token())
    cached = cache.fresh((ARM,))
    assert isinstance(cached, CachedToken)
    assert cache.fresh((VAULT,)) is None
    assert acquired.get(scope=VAULT) is cached
    assert cache.fresh((VAULT,)) is cached
    assert cache.fresh([ARM]) is None  # type: ignore[arg-type] # what cannot be a key is no error here
    stopped.wall += 3300
    assert cache.fresh((ARM,)) is None
    stopped.wall -= 3300
    stopped.ticks += 3300
    assert cache.fresh((ARM,)) is None


def test_one_acquisition_for_all_who_ask_meanwhile(acquired: Acquired) -> None:
    in_flight = acquired.begin()
    assert acquired.get() is in_flight
    assert acquired.begin("another") is not in_flight
    in_flight.end(token())
    cached = in_flight.result()
    assert isinstance(cached, CachedToken)
    assert acquired.get() is cached
    # Ending twice changes nothing.
    in_flight.end(token("y"))
    assert in_flight.result() is cached
    assert acquired.get() is cached


def test_a_stale_token_is_replaced_in_the_background(stopped: StoppedClock, acquired: Acquired) -> None:
    acquired.begin().end(token())
    cached = acquired.get()
    stopped.advance(3301)
    refresh = acquired.refresh()
    assert acquired.get() is cached
    stopped.ticks += 40
    # Past the delay, but the refresh is still in flight.
    assert acquired.get() is cached
    assert len(acquired.started) == 2
    refresh.end(token("new"))
    assert acquired.get() is refresh.result() is not cached


@pytest.mark.parametrize("outcome", [KeyError("a hook's"), unreachable("r", "refused")], ids=type)
def test_a_failed_refresh_is_tried_again_after_30_seconds(
    stopped: StoppedClock, acquired: Acquired, outcome: Any
) -> None:
    acquired.begin().end(token())
    cached = acquired.get()
    stopped.advance(3301)
    refresh = acquired.refresh()
    refresh.end(outcome)
    assert refresh.result() is cached
    stopped.ticks += 29.9
    assert acquired.get() is cached
    assert len(acquired.started) == 2
    stopped.ticks += 0.1
    acquired.refresh()


def test_two_callers_who_see_a_stale_token_start_one_refresh(stopped: StoppedClock, mocker: Any) -> None:
    def interrupted(*arguments: Any) -> Acquisition:
        # Another caller comes before the first one has started it.
        assert cache._tokens == {} or isinstance(cache.begin("r", TokenRequest(("r",), {}), token), CachedToken)
        return Acquisition(*arguments)

    mocker.patch.object(cache_module, "Acquisition", interrupted)
    started: list[InFlight] = []
    cache = TokenCache(30, started.append)
    cache.begin("r", TokenRequest(("r",), {}), token)
    started.pop().end(token())
    stopped.advance(3301)
    assert isinstance(cache.begin("r", TokenRequest(("r",), {}), token), CachedToken)
    assert len(started) == 1


def test_a_token_that_came_between_two_looks_is_returned_to_all(stopped: StoppedClock, mocker: Any) -> None:
    started: list[InFlight] = []

    def interrupted(*arguments: Any) -> Acquisition:
        mine = Acquisition(*arguments)
        if len(started) == 1:
            started.pop().end(token("newer"))
        return mine

    mocker.patch.object(cache_module, "Acquisition", interrupted)
    cache = TokenCache(30, started.append)
    first = cache.begin("r", TokenRequest(("r",), {}), token)
    assert isinstance(first, InFlight)
    cache.forget_acquisitions()
    cache.in_flight["r", None] = first
    # It ends after this caller has seen that there is no token, and before it looks for an acquisition.
    found = cache.begin("r", TokenRequest(("r",), {}), token)
    assert isinstance(found, CachedToken)
    assert found.token.value == "newer"
    assert cache.begin("r", TokenRequest(("r",), {}), lambda: pytest.fail("asked")) is found


class TestClaims:
    def test_only_a_new_token_answers_a_challenge(self, acquired: Acquired) -> None:
        acquired.begin().end(token())
        old = acquired.get()
        in_flight = acquired.begin(claims="{}")
        in_flight.end(unreachable("r", "refused"))
        assert isinstance(in_flight.result(), Failure)
        # For another service it may be good enough.
        assert acquired.get() is old

    def test_the_refused_token_is_no_answer_either(self, acquired: Acquired) -> None:
        acquired.begin().end(token())
        in_flight = acquired.begin(claims='{"access_token":{}}')
        in_flight.end(token())
        failure = in_flight.result()
        assert isinstance(failure, Failure)
        assert failure.kind == "claims"
        assert (failure.cure, failure.details) == ("challenged", {"claims": "eyJhY2Nlc3NfdG9rZW4iOnt9fQ=="})
        assert failure.what.startswith("The service refused the token for r with a claims challenge")
        assert failure.resource == "r"

    def test_one_acquisition_for_all_who_bring_the_same_challenge(self, acquired: Acquired) -> None:
        in_flight = acquired.begin(claims="{}")
        assert acquired.get(claims="{}") is in_flight
        assert acquired.get(claims='{"another":{}}') is not in_flight
        assert acquired.get() is not in_flight

    def test_what_satisfies_it_replaces_the_token(self, acquired: Acquired) -> None:
        acquired.begin(scope=ARM).end(token())
        assert acquired.cache.fresh((ARM,)) is not None
        acquired.begin(claims="{}").end(token("better"))
        cached = acquired.get()
        assert isinstance(cached, CachedToken)
        assert cached.token.value == "better"
        # Nor does the fast path return the refused one any more.
        assert acquired.cache.fresh((ARM,)) is None

    def test_a_plain_refresh_that_ends_later_does_not_replace_it(
        self, stopped: StoppedClock, acquired: Acquired
    ) -> None:
        acquired.begin().end(token())
        stopped.advance(3301)
        refresh = acquired.refresh()
        acquired.begin(claims="{}").end(token("better", 1_800_009_000))
        better = acquired.get()
        refresh.end(token("older", 1_800_009_000))
        assert refresh.result() is better
        assert acquired.get() is better

    def test_a_plain_refresh_that_starts_later_does(self, stopped: StoppedClock, acquired: Acquired) -> None:
        acquired.begin(claims="{}").end(token("better"))
        stopped.advance(3301)
        acquired.refresh().end(token("newest", 1_800_009_000))
        cached = acquired.get()
        assert isinstance(cached, CachedToken)
        assert cached.token.value == "newest"


def test_an_acquisition_ends_in_a_cache_that_was_emptied(stopped: StoppedClock, acquired: Acquired) -> None:
    late = acquired.begin(scope=ARM)
    acquired.cache.forget()
    late.end(token("late"))
    # It goes to those who waited, and to nobody who comes later.
    assert isinstance(late.result(), CachedToken)
    assert acquired.cache.fresh((ARM,)) is None
    assert isinstance(acquired.get(), InFlight)


def test_a_token_that_a_service_no_longer_takes_is_dropped(acquired: Acquired) -> None:
    acquired.begin().end(token("gone"))
    acquired.begin("other").end(token("kept"))
    acquired.cache.drop("gone")
    assert isinstance(acquired.get("other"), CachedToken)
    assert isinstance(acquired.get(), InFlight)


def test_expired_tokens_and_failed_keys_do_not_add_up(stopped: StoppedClock, acquired: Acquired) -> None:
    def alive() -> int:
        gc.collect()
        return sum(isinstance(each, (CachedToken, InFlight)) for each in gc.get_objects())

    before, held = alive(), []
    for hour in range(1, 7):
        for number in range(50):
            soon = token(expires_on=int(stopped.wall) + 3600)
            acquired.begin(f"r{hour} {number}", scope=f"s{hour} {number}").end(soon)
            acquired.begin(f"failed {hour} {number}").end(unreachable("r", "refused"))
        acquired.started.clear()
        held.append(alive() - before)
        stopped.advance(3601)
    # Fifty are valid at one time.
    assert max(held) <= 2 * 50 + 64


def test_a_new_token_costs_the_same_however_many_there_are(acquired: Acquired, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0
    is_valid = CachedToken.is_valid

    def count(cached: CachedToken) -> bool:
        nonlocal looked_at
        looked_at += 1
        return is_valid(cached)

    monkeypatch.setattr(CachedToken, "is_valid", count)
    for number in range(1000):
        acquired.begin(f"r{number}", scope=f"s{number}").end(token())
    assert looked_at < 20_000


def test_a_challenged_token_is_dropped_under_every_key(acquired: Acquired) -> None:
    # The endpoint has one token for a resource, however it is asked.
    acquired.begin("one").end(token("challenged"))
    acquired.begin("two").end(token("challenged"))
    acquired.begin("one", claims="{}").end(token("better"))
    assert isinstance(acquired.get("two"), InFlight)


def test_the_first_claim_waits_for_nothing_however_young_the_clock(stopped: StoppedClock, acquired: Acquired) -> None:
    stopped.ticks = 0.0
    assert isinstance(acquired.get(), InFlight)


def test_forgotten_tokens_are_asked_for_again_by_every_credential(shell: CloudShellEmulator) -> None:
    credentials = [CloudShellCredential(endpoint=shell.endpoint) for _ in range(3)]
    for credential in credentials:
        credential.get_token(ARM)
    shell.expire_tokens()
    for credential in credentials:
        credential.get_token(ARM)
    assert len(shell.requests) == 6


def test_a_start_that_is_interrupted_holds_nobody_up(stopped: StoppedClock) -> None:
    started: list[InFlight] = []

    def start(in_flight: InFlight) -> None:
        started.append(in_flight)
        if len(started) == 1:
            raise KeyboardInterrupt

    cache = TokenCache(30, start)
    with pytest.raises(KeyboardInterrupt):
        cache.begin("r", TokenRequest(("r",), {}), lambda: pytest.fail("acquired"))
    second = cache.begin("r", TokenRequest(("r",), {}), lambda: pytest.fail("acquired"))
    assert started == [started[0], second]
    # The first had its thread after all: who waited for it has its token.
    started[0].end(token("first"))
    assert started[0].result().token.value == "first"
    assert isinstance(second, InFlight)
    second.end(token("second"))
    found = cache.fresh("r")
    assert found is not None
    assert found.token.value == "second"


def test_a_fork_keeps_tokens_and_drops_acquisitions(acquired: Acquired) -> None:
    acquired.begin("held").end(token())
    in_flight = acquired.begin()
    acquired.cache.forget_acquisitions()
    assert isinstance(acquired.get("held"), CachedToken)
    assert acquired.begin() is not in_flight


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration])
def test_what_would_end_a_thread_becomes_a_failure(acquired: Acquired, error: type[BaseException]) -> None:
    in_flight = acquired.begin()
    in_flight.end(error())
    failure = in_flight.result()
    assert isinstance(failure, Failure)
    assert failure.resource == "r"
    assert failure.what == (f"The token request for r was broken off: a hook or the transport raised {error.__name__}.")


def test_any_other_exception_is_passed_on_to_each_without_the_frames_of_the_others(acquired: Acquired) -> None:
    in_flight, error = acquired.begin(), KeyError("a hook's")
    in_flight.end(error)
    frames = []
    for _ in range(3):
        with pytest.raises(KeyError, match="a hook's") as caught:
            in_flight.result()
        frames.append(len(list(traceback.walk_tb(caught.value.__traceback__))))
    assert len(set(frames)) == 1
    assert acquired.begin() is not in_flight


def test_nonsense_in_place_of_an_outcome_is_a_failure(acquired: Acquired) -> None:
    in_flight = acquired.begin()
    in_flight.end("nonsense")
    assert isinstance(in_flight.result(), Failure)


def test_an_error_in_the_bookkeeping_ends_the_acquisition(acquired: Acquired) -> None:
    in_flight = acquired.begin()
    in_flight.end(Token("x", None))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        in_flight.result()


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (unreachable("r", "refused"), unreachable("r", "refused").what),
        (KeyError("secret"), "KeyError"),
        (SystemExit(), broken_off("r", "SystemExit").what),
    ],
)
def test_a_failed_refresh_is_logged_once_in_these_words(
    stopped: StoppedClock, acquired: Acquired, caplog: pytest.LogCaptureFixture, outcome: Any, said: str
) -> None:
    acquired.begin().end(token())
    stopped.advance(3301)
    acquired.refresh().end(outcome)
    (record,) = [record for record in caplog.records if record.name == "azure_cloudshell_credential._tokens.cache"]
    assert record.levelname == "WARNING"
    assert record.getMessage() == f"Refresh failed; keeping the current token until it expires: {said}"


def run_to_its_end(claimed: object) -> Any:
    assert isinstance(claimed, InFlight)
    claimed.wait()
    return claimed.result()


def valid_token(value: str = "x") -> Token:
    return token(value, int(time.time()) + 3600)


def test_an_acquisition_that_takes_too_long_fails_for_those_who_wait_and_costs_one_thread() -> None:
    release = Event()
    cache = TokenCache(0.1)
    threads: list[threading.Thread] = []

    def acquire() -> Token:
        threads.append(threading.current_thread())
        release.wait(20)
        return valid_token("late")

    try:
        for _ in range(5):
            failure = run_to_its_end(cache.begin("r", TokenRequest(("r",), {}), acquire))
            assert isinstance(failure, Failure)
            assert failure.what == (
                "The Cloud Shell token endpoint did not answer within 0.1 seconds when asked for a token for r."
            )
        assert len(threads) == 1
    finally:
        release.set()
    # What it brings after all is kept.
    wait_until(lambda: isinstance(cache.begin("r", TokenRequest(("r",), {}), acquire), CachedToken))


def test_a_thread_that_does_not_run_is_not_the_fault_of_the_endpoint(mocker: Any) -> None:
    mocker.patch.object(in_flight_module, "_START_SECONDS", 0.1)
    mocker.patch.object(threading.Thread, "start")
    cache = TokenCache(0.1)
    failure = run_to_its_end(cache.begin("r", TokenRequest(("r",), {}), valid_token))
    assert failure.what == "The token request for r was not sent: its thread has not been run."


def test_whoever_acquires_cannot_wait_for_it() -> None:
    cache = TokenCache(10)
    nested: list[Any] = []

    def acquire() -> Token:
        nested.append(cache.begin("r", TokenRequest(("r",), {}), acquire))
        return valid_token()

    assert isinstance(run_to_its_end(cache.begin("r", TokenRequest(("r",), {}), acquire)), CachedToken)
    (failure,) = nested
    assert failure.kind == "nested"
    assert failure.what.startswith("A token for r was requested from inside another token request")


def test_while_the_interpreter_shuts_down_the_caller_asks(mocker: Any) -> None:
    cache = TokenCache(10)
    release = Event()
    lost = cache.begin("r", TokenRequest(("r",), {}), lambda: (release.wait(20) and valid_token()) or valid_token())
    mocker.patch("sys.is_finalizing", lambda: True)
    try:
        found = cache.begin("r", TokenRequest(("r",), {}), lambda: valid_token("mine"))
        assert found is not lost
        assert isinstance(found, InFlight)
        assert found.is_done
        assert found.result().token.value == "mine"
    finally:
        release.set()


def test_where_no_thread_can_be_started_the_caller_asks(mocker: Any) -> None:
    cache = TokenCache(10)
    mocker.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread"))
    found = cache.begin("r", TokenRequest(("r",), {}), lambda: valid_token("mine"))
    assert isinstance(found, InFlight)
    assert found.is_done
    assert found.result().token.value == "mine"


def test_who_may_not_wait_gets_the_stale_token_or_is_told_why_there_is_none(mocker: Any) -> None:
    cache = TokenCache(5)
    stale = run_to_its_end(
        cache.begin("stale", TokenRequest(("stale",), {}), lambda: token("stale", int(time.time()) + 60))
    )
    mocker.patch.object(cache_module, "is_in_turn", lambda: True)
    refused = cache.begin("r", TokenRequest(("r",), {}), lambda: pytest.fail("asked"))
    assert isinstance(refused, Failure)
    assert refused.kind == "nested"
    assert refused.what.startswith("A token for r was requested")
    assert cache.begin("stale", TokenRequest(("stale",), {}), lambda: pytest.fail("asked")) is stale


def test_waiters_that_go_away_are_forgotten(acquired: Acquired) -> None:
    in_flight = acquired.begin()
    for _ in range(100):
        in_flight.wakes.add(wake := lambda: None)
        in_flight.wakes.discard(wake)
    assert in_flight.wakes == set()
