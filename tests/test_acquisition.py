"""When to ask again: the loop over a function that sends, with given answers and a clock that moves only in pauses."""

from __future__ import annotations

import threading
import time
from threading import Thread
from typing import Any

import pytest

from azure_cloudshell_credential._endpoint import acquisition, endpoint_lock
from azure_cloudshell_credential._endpoint.acquisition import RetryPolicy, acquire, skipping
from azure_cloudshell_credential._endpoint.endpoint_lock import is_asking, one_at_a_time
from azure_cloudshell_credential._endpoint.failures import Failure
from azure_cloudshell_credential._endpoint.protocol import NoReply, Reply, Token

from .test_protocol import ARM, NOW, PORTAL, jwt, ok

ODD = Reply(400, {}, b'{"error":{"code":"odd","message":"Something odd."}}')


class Script:
    """Answers each question in turn; the last answer goes on for ever."""

    def __init__(self, mocker: Any, policy: RetryPolicy, *answers: Reply | NoReply | None, jitter: int = 127) -> None:
        self.now = 1000.0
        mocker.patch.object(acquisition, "monotonic", lambda: self.now)
        mocker.patch.object(acquisition, "time", lambda: NOW + self.now - 1000)
        mocker.patch("os.urandom", lambda size: bytes([jitter]))
        self.asks: list[float] = []
        self.pauses: list[float] = []
        self.answers = list(answers)
        self.outcome = acquire(ARM, self.send, policy, self.pause)

    def send(self, resource: str, seconds: float) -> Reply | NoReply | None:
        assert resource == ARM
        self.asks.append(seconds)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def pause(self, seconds: float, failure: Failure) -> float:
        self.pauses.append(seconds)
        self.now += seconds
        return 0.0

    @property
    def message(self) -> str:
        assert isinstance(self.outcome, Failure)
        return self.outcome.message


def about(*seconds: float) -> list[Any]:
    return [pytest.approx(value, rel=0.01) for value in seconds]


def test_a_transient_failure_is_retried_with_pauses_that_double(mocker: Any) -> None:
    script = Script(mocker, RetryPolicy(30, 3, 0.4), ODD, ODD, ODD, ok())
    assert isinstance(script.outcome, Token)
    assert script.pauses == about(0.4, 0.8, 1.6)
    assert script.asks == about(30, 29.6, 28.8, 27.2)


def test_a_portal_timeout_is_asked_again_as_long_as_the_budget_lasts(mocker: Any) -> None:
    script = Script(mocker, RetryPolicy(30), PORTAL)
    assert script.pauses == about(0.4, 1, 2, 5, 10, 10)
    assert isinstance(script.outcome, Failure)
    assert script.outcome.what.endswith("Timeout waiting for token from portal. (Asked 7 times in 28.4 seconds.)")
    assert script.outcome.what.startswith("Cloud Shell did not get a token for")
    assert "Keep the browser tab with Cloud Shell open and active" in script.message
    assert "the portal is in the right directory" in script.message
    script = Script(mocker, RetryPolicy(120), PORTAL)
    assert script.pauses == about(0.4, 1, 2, 5, *[10] * 11)


def test_a_portal_that_wakes_up_late_brings_the_token(mocker: Any) -> None:
    script = Script(mocker, RetryPolicy(30), *[PORTAL] * 5, ok())
    assert isinstance(script.outcome, Token)
    assert len(script.asks) == 6


@pytest.mark.parametrize(("total", "asks"), [(0, 1), (1, 2), (5, 6)])
def test_retry_total_bounds_every_failure_when_it_is_given(mocker: Any, total: int, asks: int) -> None:
    for answer in (PORTAL, ODD):
        script = Script(mocker, RetryPolicy(300, total, 0.4), answer)
        assert len(script.asks) == asks
        assert (f"(Asked {asks} times in" in script.message) == (asks > 1)


def test_by_default_other_failures_are_retried_three_times(mocker: Any) -> None:
    assert len(Script(mocker, RetryPolicy(), ODD).asks) == 4
    transient = Reply(400, {}, b'{"error":{"code":"x","message":"AADSTS90033: A transient error has occurred."}}')
    assert len(Script(mocker, RetryPolicy(), transient).asks) == 4


def test_what_is_asked_once_does_not_say_how_often(mocker: Any) -> None:
    assert "Asked" not in Script(mocker, RetryPolicy(30, 0), ODD).message


def test_a_large_factor_stretches_the_portals_pauses(mocker: Any) -> None:
    assert Script(mocker, RetryPolicy(60, None, 4), PORTAL).pauses == about(4, 10, 20)


def test_the_reason_for_a_pause_is_passed_on() -> None:
    reasons: list[str] = []

    def pause(seconds: float, failure: Failure) -> float:
        reasons.append(failure.kind)
        return seconds

    acquire(ARM, lambda *_: PORTAL, RetryPolicy(2), pause)
    assert set(reasons) == {"portal"}


def test_without_back_off_there_is_no_endless_run_of_requests(mocker: Any) -> None:
    script = Script(mocker, RetryPolicy(30, None, 0), PORTAL)
    assert len(script.asks) == 4
    assert script.pauses == []


@pytest.mark.parametrize(("jitter", "factor"), [(0, 0.8), (255, 1.2)])
def test_pauses_vary_by_a_fifth(mocker: Any, jitter: int, factor: float) -> None:
    script = Script(mocker, RetryPolicy(30, 3, 0.4), ODD, jitter=jitter)
    assert script.pauses == about(0.4 * factor, 0.8 * factor, 1.6 * factor)


def test_back_off_grows_no_further_than_the_numbers_go(mocker: Any) -> None:
    script = Script(mocker, RetryPolicy(86400, 5000, 1e-5), ODD)
    assert len(script.asks) == 5001
    assert max(script.pauses) == pytest.approx(1e-5 * 2**16, rel=0.01)


def test_a_pause_that_would_outlast_the_budget_is_not_taken(mocker: Any) -> None:
    assert Script(mocker, RetryPolicy(1, 5, 0.4), ODD).pauses == about(0.4)
    # A pause that ends on the deadline leaves no time for the question after it.
    assert Script(mocker, RetryPolicy(0.4, 3, 0.4), ODD, jitter=128).pauses == []


@pytest.mark.parametrize(
    ("value", "pause"),
    [
        ("7", 7.0),
        ("7.5", 7.5),
        ("0", 0.4),
        ("", 0.4),
        ("soon", 0.4),
        ("-5", 0.4),
        ("Fri, 15 Jan 2027 08:00:10 GMT", 9.5),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.4),
    ],
)
def test_retry_after_is_read_in_all_its_forms(mocker: Any, value: str, pause: float) -> None:
    for status, body in ((503, b""), (503, b"{}"), (400, PORTAL.body)):
        script = Script(mocker, RetryPolicy(30, 3, 0.4), Reply(status, {"retry-after": value}, body), ok())
        assert script.pauses == about(pause)


def test_a_mixed_up_token_is_requested_once_more_at_once(mocker: Any) -> None:
    wrong = ok(access_token=jwt(aud="https://graph.windows.net/"))
    assert isinstance(Script(mocker, RetryPolicy(), wrong, ok()).outcome, Token)
    script = Script(mocker, RetryPolicy(), wrong)
    assert isinstance(script.outcome, Failure)
    assert script.outcome.kind == "wrong_resource"
    assert (len(script.asks), script.pauses) == (2, [])
    assert len(Script(mocker, RetryPolicy(retry_total=0), wrong).asks) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "what"),
    [
        (NoReply("nobody"), "refused", f"The token request for {ARM} failed: nobody."),
        (NoReply("", timed_out=True), "timeout", f"did not answer within 30 seconds when asked for a token for {ARM}."),
        (
            None,
            "busy",
            f"request for {ARM} was not sent: its deadline of 30 seconds was exceeded while waiting",
        ),
        (Reply(404, {}, b""), "endpoint", f"answered 404 when asked for a token for {ARM}"),
    ],
)
def test_what_is_not_retryable_is_asked_once(mocker: Any, answer: Reply | NoReply | None, kind: str, what: str) -> None:
    script = Script(mocker, RetryPolicy(), answer)
    assert isinstance(script.outcome, Failure)
    assert script.outcome.kind == kind
    assert what in script.outcome.what
    assert script.outcome.resource == ARM
    assert script.pauses == []


def test_one_second_is_one_second(mocker: Any) -> None:
    assert "within 1 second when" in Script(mocker, RetryPolicy(1), NoReply("", timed_out=True)).message


@pytest.mark.parametrize("timeout", [0, 1e-9, 0.0009])
def test_with_nothing_left_no_request_is_sent(mocker: Any, timeout: float) -> None:
    mocker.patch.object(acquisition, "monotonic", lambda: 5.0)
    outcome = acquire(ARM, lambda *_: pytest.fail("sent"), RetryPolicy(timeout))
    assert isinstance(outcome, Failure)
    assert outcome.kind == "timeout"
    assert f"when asked for a token for {ARM}." in outcome.what


def test_a_budget_is_a_day_at_most() -> None:
    assert RetryPolicy(1e10).timeout == 86400
    assert RetryPolicy(2**63 - 1).timeout == 86400


def test_skipped_pauses_use_the_budget_up() -> None:
    asks: list[float] = []

    def send(resource: str, seconds: float) -> Reply:
        asks.append(seconds)
        return PORTAL

    start = time.monotonic()
    outcome = acquire(ARM, send, RetryPolicy(30), skipping)
    assert isinstance(outcome, Failure)
    assert 6 <= len(asks) <= 8
    assert time.monotonic() - start < 1


def test_the_default_pause_waits(mocker: Any) -> None:
    slept: list[float] = []
    mocker.patch.object(acquisition, "sleep", slept.append)
    acquire(ARM, lambda *_: ODD, RetryPolicy(30, 1, 0.4))
    (seconds,) = slept
    assert 0.3 < seconds < 0.5
    assert acquisition.sleeping(7.0, Failure("x", "y", "z")) == 0.0
    assert slept[1] == 7.0


PORT = 1


def test_requests_to_one_endpoint_never_overlap() -> None:
    inside = 0
    most = 0
    mutex = threading.Lock()

    def send(resource: str, seconds: float) -> Reply:
        nonlocal inside, most
        with mutex:
            inside += 1
            most = max(most, inside)
        time.sleep(0.005)
        with mutex:
            inside -= 1
        return ok()

    threads = [Thread(target=one_at_a_time(PORT, send), args=("r", 10.0)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_another_endpoint_is_not_waited_for() -> None:
    assert one_at_a_time(PORT, lambda *_: one_at_a_time(PORT + 1, lambda *_: ok())("r", 1.0))("r", 1.0) is not None


def test_waiting_ends_with_the_budget_and_a_lost_request_is_passed() -> None:
    release = threading.Event()

    def stuck(resource: str, seconds: float) -> Reply:
        release.wait(20)
        return ok()

    lost = Thread(target=one_at_a_time(PORT, stuck), args=("r", 0.2))
    lost.start()
    time.sleep(0.05)
    send = one_at_a_time(PORT, lambda resource, seconds: Reply(200, {}, str(seconds).encode()))
    assert send("r", 0.1) is None
    start = time.monotonic()
    reply = send("r", 30.0)
    assert isinstance(reply, Reply)
    # It waited until the lost one was overdue by a second, and has the rest of its own budget.
    assert 0.5 < time.monotonic() - start < 5
    assert float(reply.body) < 30
    release.set()
    lost.join()
    assert send("r", 1.0) is not None


def test_a_sender_that_raises_leaves_the_endpoint_free() -> None:
    def fail(resource: str, seconds: float) -> Reply:
        assert is_asking()
        raise KeyError

    with pytest.raises(KeyError):
        one_at_a_time(PORT, fail)("r", 1.0)
    assert not is_asking()
    assert one_at_a_time(PORT, lambda *_: ok())("r", 0.5) is not None


def test_while_the_interpreter_shuts_down_nobody_is_waited_for(mocker: Any) -> None:
    turn = endpoint_lock._take_turn(PORT, 30)
    mocker.patch("sys.is_finalizing", lambda: True)
    assert one_at_a_time(PORT, lambda *_: ok())("r", 0.5) is not None
    assert turn is not None
    turn.release()
