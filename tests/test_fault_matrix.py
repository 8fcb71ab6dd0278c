"""The whole fault matrix, in parts that can run side by side."""

from __future__ import annotations

import pytest

from .fault_matrix import CASES, Case, run

PARTS = 16

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("part", range(PARTS))
def test_no_case_fails(part: int) -> None:
    failed: list[tuple[Case, str]] = list(run(CASES[part::PARTS]))
    assert [f"{case}: {how}" for case, how in failed] == []
