"""When to ask again: the loop over a function that sends, with given answers and a clock that moves only in pauses."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from azure_cloudshell_credential._endpoint import clock, turns
from azure_cloudshell_credential._endpoint.acquisition import RetryPolicy, ask_endpoint
from azure_cloudshell_credential._endpoint.environment import Endpoint
from azure_cloudshell_credential._endpoint.exchange import TOO_LATE
from azure_cloudshell_credential._endpoint.failures import Failure
from azure_cloudshell_credential._endpoint.protocol import NoReply, Reply
from azure_cloudshell_credential._endpoint.token import Token

from .test_protocol import ARM, NOW, PORTAL, jwt, ok

ODD = Reply(400, {}, b'{"error":{"code":"odd","message":"Something odd."}}')
ENDPOINT = Endpoint("http://127.0.0.1:1/oauth2/token")
ANOTHER = Endpoint("http://127.0.0.1:2/oauth2/token")


class StoppedClock:
    """Moves only in pauses."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def time(self) -> float:
        return NOW + self.now - 1000

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class Script:
    """Answers each question in turn; the last answer goes on for ever."""

    def __init__(self, mocker: Any, policy: RetryPolicy, *answers: Reply | NoReply, jitter: float = 0.5) -> None:
        stopped = StoppedClock()
        mocker.patch.object(clock, "current", stopped)
        mocker.patch("random.uniform", lambda low, high: low + (high - low) * jitter)
        self.asks: list[float] = []
        self.pauses = stopped.pauses
        self.told: list[tuple[float, str]] = []
        self.answers = list(answers)
        self.outcome = ask_endpoint(
            ARM, self.send, policy, ENDPOINT, lambda *told: self.told.append((told[0], told[1].kind))
        )

    def send(self, resource: str, seconds: float) -> Reply | NoReply:
        assert resource == ARM
        self.asks.append(seconds)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

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
    assert script.pauses == about(0.4, 0.8, 1.6, 3.2, 6.4, 10)
    assert isinstance(script.outcome, Failure)
    assert script.outcome.what.endswith("Timeout waiting for token from portal. (Asked 7 times in 22.4 seconds.)")
    assert script.outcome.what.startswith("Cloud Shell did not get a token for")
    assert "Keep the browser tab with Cloud Shell open and active" in script.message
    assert "the portal is in the right directory" in script.message
    script = Script(mocker, RetryPolicy(120), PORTAL)
    assert script.pauses == about(0.4, 0.8, 1.6, 3.2, 6.4, *[10] * 10)


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


def test_an_error_of_entras_is_not_retried(mocker: Any) -> None:
    transient = Reply(400, {}, b'{"error":{"code":"x","message":"AADSTS90033: A transient error has occurred."}}')
    assert len(Script(mocker, RetryPolicy(), transient).asks) == 1


def test_what_is_asked_once_does_not_say_how_often(mocker: Any) -> None:
    assert "Asked" not in Script(mocker, RetryPolicy(30, 0), ODD).message


def test_a_large_factor_stretches_the_portals_pauses(mocker: Any) -> None:
    assert Script(mocker, RetryPolicy(40, None, 4), PORTAL).pauses == about(4, 8, 10, 10)


def test_each_pause_is_told_before_it_is_taken(mocker: Any) -> None:
    script = Script(mocker, RetryPolicy(2), PORTAL)
    assert script.told == [(pause, "portal") for pause in script.pauses]
    assert len(script.told) == 2


def test_what_took_less_than_a_second_is_not_told_to_the_millisecond(mocker: Any) -> None:
    script = Script(mocker, RetryPolicy(30, 1, 0.01), ODD)
    assert script.message.startswith("The Cloud Shell token endpoint answered 400")
    assert "(Asked 2 times in under a second.)" in script.message


def test_without_back_off_there_is_no_endless_run_of_requests(mocker: Any) -> None:
    script = Script(mocker, RetryPolicy(30, None, 0), PORTAL)
    assert len(script.asks) == 4
    assert script.pauses == []


@pytest.mark.parametrize(("jitter", "factor"), [(0.0, 0.8), (1.0, 1.2)])
def test_pauses_vary_by_a_fifth(mocker: Any, jitter: float, factor: float) -> None:
    script = Script(mocker, RetryPolicy(30, 3, 0.4), ODD, jitter=jitter)
    assert script.pauses == about(0.4 * factor, 0.8 * factor, 1.6 * factor)


def test_back_off_grows_no_further_than_10_seconds(mocker: Any) -> None:
    script = Script(mocker, RetryPolicy(86400, 5000, 1), ODD)
    assert len(script.asks) == 5001
    assert max(script.pauses) == pytest.approx(10, rel=0.01)


def test_a_pause_that_would_outlast_the_budget_is_not_taken(mocker: Any) -> None:
    assert Script(mocker, RetryPolicy(1, 5, 0.4), ODD).pauses == about(0.4)
    # A pause that ends on the deadline leaves no time for the question after it.
    assert Script(mocker, RetryPolicy(0.4, 3, 0.4), ODD, jitter=0.51).pauses == []


def test_the_bounds_of_a_pause_and_of_what_is_told_are_exact(mocker: Any) -> None:
    slow = Reply(503, {"retry-after": "1"}, b"")
    assert "(Asked 2 times in 1 second.)" in Script(mocker, RetryPolicy(30, 1, 0.1), slow).message
    assert Script(mocker, RetryPolicy(1, 1, 0.1), slow).pauses == []


@pytest.mark.parametrize(
    ("value", "pause"),
    [
        ("7", 7.0),
        ("7.5", 7.5),
        ("0", 0.4),
        ("", 0.4),
        ("soon", 0.4),
        ("-5", 0.4),
        # A date, which the endpoint has not been seen to send.
        ("Fri, 15 Jan 2027 08:00:10 GMT", 0.4),
    ],
)
def test_retry_after_is_read_as_seconds(mocker: Any, value: str, pause: float) -> None:
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
        (TOO_LATE, "timeout", f"did not answer within 30 seconds when asked for a token for {ARM}."),
        (Reply(404, {}, b""), "endpoint", f"answered 404 when asked for a token for {ARM}"),
    ],
)
def test_what_is_not_retryable_is_asked_once(mocker: Any, answer: Reply | NoReply, kind: str, what: str) -> None:
    script = Script(mocker, RetryPolicy(), answer)
    assert isinstance(script.outcome, Failure)
    assert script.outcome.kind == kind
    assert what in script.outcome.what
    assert script.outcome.resource == ARM
    assert script.pauses == []


def test_one_second_is_one_second(mocker: Any) -> None:
    assert "within 1 second when" in Script(mocker, RetryPolicy(1), TOO_LATE).message


@pytest.mark.parametrize("timeout", [0, 1e-9, 0.0009])
def test_with_nothing_left_no_request_is_sent(mocker: Any, timeout: float) -> None:
    mocker.patch.object(clock, "current", StoppedClock())
    outcome = ask_endpoint(ARM, lambda *_: pytest.fail("sent"), RetryPolicy(timeout), ENDPOINT)
    assert isinstance(outcome, Failure)
    assert outcome.kind == "timeout"
    assert f"within {timeout:.3g} seconds when asked for a token for {ARM}." in outcome.what


def test_a_budget_is_a_day_at_most() -> None:
    assert RetryPolicy(1e10).timeout == 86400
    assert RetryPolicy(2**63 - 1).timeout == 86400


def send_within(seconds: float, send: Any, endpoint: Endpoint = ENDPOINT) -> Token | Failure:
    return ask_endpoint(ARM, send, RetryPolicy(seconds, retry_total=0), endpoint)


def give(resource: str, seconds: float) -> Reply:
    return ok(expires_on=int(time.time()) + 3600)


def test_requests_to_one_endpoint_never_overlap() -> None:
    inside = most = 0
    mutex = threading.Lock()
    outcomes: list[Token | Failure] = []

    def send(resource: str, seconds: float) -> Reply:
        nonlocal inside, most
        with mutex:
            inside += 1
            most = max(most, inside)
        time.sleep(0.005)
        with mutex:
            inside -= 1
        return give(resource, seconds)

    threads = [Thread(target=lambda: outcomes.append(send_within(10, send))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert [type(outcome) for outcome in outcomes] == [Token] * 20


def test_another_endpoint_is_not_waited_for() -> None:
    def send(resource: str, seconds: float) -> Reply:
        assert isinstance(send_within(1, give, ANOTHER), Token)
        return give(resource, seconds)

    assert isinstance(send_within(1, send), Token)


def test_pauses_are_not_waited_for(mocker: Any) -> None:
    inside = threading.Event()
    over = threading.Event()

    def pause(seconds: float) -> None:
        inside.set()
        over.wait(20)

    mocker.patch.object(clock, "current", SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=pause))
    thread = Thread(target=ask_endpoint, args=(ARM, lambda *_: ODD, RetryPolicy(30, 1, 0.01), ENDPOINT))
    thread.start()
    inside.wait(20)
    assert isinstance(send_within(1, give), Token)
    over.set()
    thread.join()


def test_waiting_ends_with_the_budget_and_a_lost_request_is_passed() -> None:
    release = threading.Event()

    def stuck(resource: str, seconds: float) -> Reply:
        release.wait(20)
        return give(resource, seconds)

    lost = Thread(target=send_within, args=(0.2, stuck))
    lost.start()
    time.sleep(0.05)
    failure = send_within(0.1, give)
    assert isinstance(failure, Failure)
    assert failure.kind == "busy"
    assert f"request for {ARM} was not sent: its deadline of 0.1 seconds was exceeded while waiting" in failure.what
    left: list[float] = []

    def send(resource: str, seconds: float) -> Reply:
        left.append(seconds)
        return give(resource, seconds)

    start = time.monotonic()
    waiting = [Thread(target=send_within, args=(30, send)) for _ in range(5)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    # They waited until the lost one was overdue by a second, and have the rest of their own budgets.
    assert 0.5 < time.monotonic() - start < 10
    assert len(left) == 5
    assert max(left) < 30
    release.set()
    lost.join()
    assert isinstance(send_within(1, give), Token)
    assert turns._turns == {}


def test_a_sender_that_raises_leaves_the_endpoint_free() -> None:
    def fail(resource: str, seconds: float) -> Reply:
        assert turns.is_in_turn()
        raise KeyError

    with pytest.raises(KeyError):
        send_within(1, fail)
    assert not turns.is_in_turn()
    assert isinstance(send_within(0.5, give), Token)


def test_only_the_thread_that_asks_is_inside_a_request() -> None:
    def send(resource: str, seconds: float) -> Reply:
        seen: list[bool] = []
        thread = Thread(target=lambda: seen.append(turns.is_in_turn()))
        thread.start()
        thread.join()
        assert (turns.is_in_turn(), seen) == (True, [False])
        return give(resource, seconds)

    assert isinstance(send_within(1, send), Token)


def while_another_has_its_turn(work: Any) -> None:
    """Run the work while a request of another thread is at the endpoint."""
    inside, over = threading.Event(), threading.Event()

    def send(resource: str, seconds: float) -> Reply:
        inside.set()
        over.wait(20)
        return give(resource, seconds)

    thread = Thread(target=send_within, args=(20, send))
    thread.start()
    inside.wait(20)
    try:
        work()
    finally:
        over.set()
        thread.join()


def test_while_the_interpreter_shuts_down_nobody_is_waited_for(mocker: Any) -> None:
    def work() -> None:
        mocker.patch("sys.is_finalizing", lambda: True)
        asked: list[tuple[str, float]] = []

        def send(resource: str, seconds: float) -> Reply:
            asked.append((resource, seconds))
            return give(resource, seconds)

        assert isinstance(send_within(0.5, send), Token)
        assert asked[0][0] == ARM
        assert 0.4 < asked[0][1] <= 0.5

    while_another_has_its_turn(work)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_waits_for_no_thread_of_its_parents() -> None:
    def work() -> None:
        child = os.fork()
        if child == 0:
            os._exit(0 if isinstance(send_within(0.5, give), Token) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    while_another_has_its_turn(work)


GEVENT = """
import threading, time
from azure_cloudshell_credential._endpoint import acquisition
from azure_cloudshell_credential._endpoint.environment import Endpoint
from azure_cloudshell_credential._endpoint.acquisition import RetryPolicy, ask_endpoint
from azure_cloudshell_credential._endpoint.protocol import Reply

def send(resource, seconds):
    time.sleep(0.05)
    return Reply(200, {}, b'{"access_token":"x","expires_in":3600}')

def get():
    return ask_endpoint("https://vault.azure.net", send, RetryPolicy(5), Endpoint("http://127.0.0.1:1"))

# A lock is made before the patch, and one is taken after it.
print(get())
PATCH
outcomes = []
threads = [threading.Thread(target=lambda: outcomes.append(get())) for _ in range(5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(outcomes)
assert len(outcomes) == 5 and all(outcome.expires_on for outcome in outcomes)
"""


@pytest.mark.parametrize(
    "patch", ["from gevent import monkey; monkey.patch_all()", "import eventlet; eventlet.monkey_patch()"]
)
def test_green_threads_that_come_after_the_first_request_wait_for_each_other(patch: str) -> None:
    program = GEVENT.replace("PATCH", patch)
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
