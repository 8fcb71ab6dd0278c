"""A few seconds of the soak; ``make soak`` runs it for minutes."""

from __future__ import annotations

import pytest

from azure_cloudshell_credential import _cache

from . import soak


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking with threads, which is what it tests
def test_nothing_goes_wrong_in_a_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cache, "HOLD_OFF", 1)
    counts, wrong = soak.run(6)
    assert wrong == []
    assert counts["tokens"] > 100
