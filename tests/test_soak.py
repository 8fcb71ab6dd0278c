"""Some seconds of the soak; ``make soak`` runs it for minutes."""

from __future__ import annotations

import pytest

from .soak import run


@pytest.mark.timeout(180)
def test_nothing_goes_wrong_in_20_seconds() -> None:
    found, wrong = run(20)
    assert wrong == [], found
