"""A stateful model of the cache and the clocks: whatever happens in whatever order, its promises hold."""

from __future__ import annotations

from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from azure_cloudshell_credential import _cache, _failures
from azure_cloudshell_credential._cache import Flight, Held, TokenCache
from azure_cloudshell_credential._failures import Failure
from azure_cloudshell_credential._protocol import Token

NAMES = ("arm", "vault", "storage")
RESOURCES = st.sampled_from(NAMES)
START = 1_800_000_000.0


class Model(RuleBasedStateMachine):
    """Callers claim, flights land or fail or are given up, time passes and clocks jump."""

    flights = Bundle("flights")

    def __init__(self) -> None:
        super().__init__()
        self.wall = START
        self.steady = 1000.0
        self.patches = [
            mock.patch.object(_cache, "time", lambda: self.wall),
            mock.patch.object(_cache, "monotonic", lambda: self.steady),
        ]
        for patch in self.patches:
            patch.start()
        self.serial = 0
        self.under_way: dict[str, Flight] = {}
        self.expiries: dict[str, float] = {}
        """For each token, the true moment of its end, on the steady clock."""
        self.attempts: dict[str, list[float]] = {}

    def teardown(self) -> None:
        for patch in self.patches:
            patch.stop()

    @initialize()
    def start(self) -> None:
        self.cache = TokenCache()

    def check(self, resource: str, held: Held) -> None:
        assert held.token.value.startswith(f"{resource} ")
        assert self.steady < self.expiries[held.token.value], "an expired token was handed out"
        assert self.wall < held.token.expires_on

    @rule(target=flights, resource=RESOURCES)
    def claim(self, resource: str) -> Flight | None:
        outcome, flight, is_pilot = self.cache.claim(resource, 30)
        if isinstance(outcome, Held):
            self.check(resource, outcome)
        if flight is None:
            assert outcome is not None
            assert not is_pilot
            return None
        if not is_pilot:
            assert flight is self.under_way[resource]
            return None
        assert resource not in self.under_way, "two flights for one resource"
        assert flight.resource == resource
        if isinstance(outcome, Held):
            assert not outcome.is_fresh()
            last = self.attempts.get(resource, [])
            assert not last or self.steady - last[-1] >= _cache.REFRESH_INTERVAL, "refreshed too often"
        self.attempts.setdefault(resource, []).append(self.steady)
        self.under_way[resource] = flight
        return flight

    def ended(self, flight: Flight) -> bool:
        if self.under_way.get(flight.resource) is not flight:
            return False
        del self.under_way[flight.resource]
        return True

    @rule(flight=consumes(flights), life=st.integers(1, 90_000), half=st.booleans())
    def land(self, flight: Flight | None, life: int, half: bool) -> None:
        if flight is None or not self.ended(flight):
            return
        self.serial += 1
        value = f"{flight.resource} {self.serial}"
        self.expiries[value] = self.steady + life
        now = int(self.wall)
        self.cache.land(flight, Token(value, now + life, now + life // 2 if half else None, None))
        landed = flight.done.result()
        if isinstance(landed, Held):
            assert landed.token.value == value
            self.cache.remember((flight.resource,), landed)

    @rule(flight=consumes(flights))
    def land_with_the_token_of_before(self, flight: Flight | None) -> None:
        if flight is None or not self.ended(flight):
            return
        entry = self.cache._entries[flight.resource]
        if entry.held is None or entry.held.token.expires_on <= self.wall:
            self.cache.land(flight, None)
            return
        before = entry.held.token
        self.cache.land(flight, Token(before.value, before.expires_on, None, None))
        landed = flight.done.result()
        if isinstance(landed, Held):
            self.check(flight.resource, landed)

    @rule(flight=consumes(flights), silent=st.booleans())
    def fail(self, flight: Flight | None, silent: bool) -> None:
        if flight is None or not self.ended(flight):
            return
        failure = _failures.no_answer("r", 30) if silent else _failures.unreachable("r", "refused")
        self.cache.land(flight, failure)
        assert isinstance(flight.done.result(), Failure)

    @rule(flight=consumes(flights))
    def give_up(self, flight: Flight | None) -> None:
        if flight is not None and self.ended(flight):
            self.cache.land(flight, None)
            assert flight.done.result() is None

    @rule(seconds=st.one_of(st.integers(0, 60), st.integers(0, 10_000)))
    def time_passes(self, seconds: int) -> None:
        self.wall += seconds
        self.steady += seconds

    @rule(seconds=st.integers(-100_000, 100_000))
    def the_wall_clock_jumps(self, seconds: int) -> None:
        self.wall += seconds

    @rule()
    def the_process_forks(self) -> None:
        self.cache.after_fork()
        self.under_way.clear()

    @rule()
    def tokens_are_forgotten(self) -> None:
        self.cache.forget_tokens()
        for resource in NAMES:
            assert self.cache.fresh((resource,)) is None

    @invariant()
    def the_fast_path_hands_out_valid_tokens_only(self) -> None:
        if hasattr(self, "cache"):
            for resource in NAMES:
                held = self.cache.fresh((resource,))
                if held is not None:
                    self.check(resource, held)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
