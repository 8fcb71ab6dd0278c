"""What failures say: one sentence about what happened, and one of advice."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from azure_cloudshell_credential._endpoint import failures
from azure_cloudshell_credential._endpoint.failures import Failure, no_answer
from azure_cloudshell_credential._endpoint.identity import Identity
from azure_cloudshell_credential._endpoint.text import duration

MAKERS: dict[str, Callable[..., Failure]] = {
    name: maker
    for name, maker in inspect.getmembers(failures, inspect.isfunction)
    if inspect.signature(maker).return_annotation == "Failure"
}
SAMPLES: dict[str, Any] = {
    "cause": Failure("timeout", "It timed out.", "Do."),
    "mine": Identity("t", "m"),
    "theirs": Identity("t", "o"),
    "refusal": None,
    "supported": (),
    **dict.fromkeys(("ago", "budget", "life", "rest", "retry_after", "status"), 400),
}


def sample(maker: Callable[..., Failure]) -> Failure:
    """A failure, made with a text for each word that is left open."""
    names = inspect.signature(maker).parameters
    return maker(**{name: SAMPLES.get(name, f"the {name}.") for name in names})


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_each_failure_is_one_sentence_and_one_advice(name: str) -> None:
    made = sample(MAKERS[name])
    assert made.what.endswith(".")
    assert made.advice.endswith((".", "}", "requested.", "fQ==")) or "--claims-challenge" in made.advice


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "1 second"),
        (0.1, "0.1 seconds"),
        (30, "30 seconds"),
        (299, "299 seconds"),
        (300, "5 minutes"),
        (600, "10 minutes"),
        (400, "6.7 minutes"),
        (3899, "65 minutes"),
        (7199, "120 minutes"),
        (7200, "2 hours"),
        (11_100, "3.1 hours"),
        (360_000, "100 hours"),
    ],
)
def test_a_number_is_a_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    assert f" {text} " in no_answer("r", seconds).what
