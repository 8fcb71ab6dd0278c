"""A stateful model of the cache and the clocks: whatever happens in whatever order, its promises hold."""

from __future__ import annotations

from typing import Any
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from azure_cloudshell_credential._endpoint import clock, failures
from azure_cloudshell_credential._endpoint.failures import Failure
from azure_cloudshell_credential._endpoint.scopes import TokenRequest
from azure_cloudshell_credential._endpoint.token import Token
from azure_cloudshell_credential._tokens import cache
from azure_cloudshell_credential._tokens.cache import CachedToken, TokenCache
from azure_cloudshell_credential._tokens.in_flight import InFlight

NAMES = ("arm", "vault", "storage")
RESOURCES = st.sampled_from(NAMES)
START = 1_800_000_000.0


class Claimed:
    """An acquisition, and what for."""

    def __init__(self, resource: str, in_flight: InFlight) -> None:
        self.resource = resource
        self.in_flight = in_flight


class Model(RuleBasedStateMachine):
    """Callers claim, acquisitions end with a token, a failure or an exception, time passes and clocks jump."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.wall = START
        self.ticks = 1000.0
        self.patch = mock.patch.object(clock, "current", self)
        self.patch.start()
        self.serial = 0
        self.started: list[InFlight] = []
        self.under_way: dict[str, InFlight] = {}
        self.attempts: dict[str, float] = {}

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.ticks

    def teardown(self) -> None:
        self.patch.stop()

    @initialize()
    def start(self) -> None:
        self.cache = TokenCache(30, self.started.append)

    def check(self, resource: str, cached: CachedToken) -> None:
        assert cached.token.value.startswith(f"{resource} ")
        assert self.wall < cached.token.expires_on, "an expired token was handed out"

    @rule(target=claims, resource=RESOURCES)
    def get(self, resource: str) -> Claimed | None:
        held = self.held(resource)
        before = len(self.started)
        acquire = lambda: failures.unreachable(resource, "never run")  # noqa: E731
        outcome = self.cache.begin(resource, TokenRequest((resource,), {}), acquire)
        started = self.started[before:]
        if isinstance(outcome, CachedToken):
            self.check(resource, outcome)
            if not started:
                return None
            assert held is outcome
            assert self.cache.fresh(resource) is None
            assert self.ticks - self.attempts[resource] >= cache.REFRESH_RETRY_DELAY, "refreshed too often"
        else:
            assert isinstance(outcome, InFlight)
            assert held is None, "made to wait although there is a valid token"
            if outcome is self.under_way.get(resource):
                assert not started
                return None
        (in_flight,) = started
        assert resource not in self.under_way, "two acquisitions for one resource"
        self.attempts[resource] = self.ticks
        self.under_way[resource] = in_flight
        return Claimed(resource, in_flight)

    def held(self, resource: str) -> CachedToken | None:
        cached = self.cache._tokens.get(resource)
        return cached if cached is not None and cached.is_valid() else None

    def ended(self, claimed: Claimed | None) -> bool:
        if claimed is None or self.under_way.get(claimed.resource) is not claimed.in_flight:
            return False
        del self.under_way[claimed.resource]
        return True

    @rule(claimed=consumes(claims), life=st.integers(1, 90_000), half=st.booleans())
    def end_with_a_token(self, claimed: Claimed | None, life: int, half: bool) -> None:
        if claimed is None or not self.ended(claimed):
            return
        self.serial += 1
        now = int(self.wall)
        value = f"{claimed.resource} {self.serial}"
        claimed.in_flight.end(Token(value, now + life, now + life // 2 if half else None))
        self.attempts[claimed.resource] = self.ticks
        outcome = claimed.in_flight.result()
        assert outcome.token.value == value

    @rule(claimed=consumes(claims), kind=st.sampled_from(["timeout", "refused", "audience", "raised", "exits"]))
    def end_without(self, claimed: Claimed | None, kind: str) -> None:
        if claimed is None or not self.ended(claimed):
            return
        held = self.held(claimed.resource)
        outcomes: dict[str, Any] = {
            "timeout": failures.no_answer("r", 30),
            "refused": failures.unreachable("r", "refused"),
            "audience": failures.audience_not_supported("r", ()),
            "raised": KeyError("r"),
            "exits": SystemExit(),
        }
        claimed.in_flight.end(outcomes[kind])
        if held is not None:
            assert claimed.in_flight.result() is held
        elif kind == "raised":
            assert isinstance(claimed.in_flight._outcome, KeyError)
        else:
            assert isinstance(claimed.in_flight.result(), Failure)

    @rule(seconds=st.one_of(st.integers(0, 60), st.integers(0, 10_000)))
    def time_passes(self, seconds: int) -> None:
        self.wall += seconds
        self.ticks += seconds

    @rule(seconds=st.integers(-100_000, 100_000))
    def the_wall_clock_jumps(self, seconds: int) -> None:
        self.wall += seconds

    @rule()
    def the_process_forks(self) -> None:
        self.cache.forget_acquisitions()
        self.under_way.clear()

    @rule()
    def tokens_are_forgotten(self) -> None:
        self.cache.forget()
        # What is under way belongs to those who wait for it, and to nobody who comes later.
        self.under_way.clear()
        for resource in NAMES:
            assert self.cache.fresh((resource,)) is None

    @invariant()
    def the_fast_path_hands_out_valid_tokens_only(self) -> None:
        if hasattr(self, "cache"):
            for resource in NAMES:
                cached = self.cache.fresh((resource,))
                if cached is not None:
                    self.check(resource, cached)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
