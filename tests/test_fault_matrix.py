"""A sample of the fault matrix; ``make faults`` runs all of it."""

from __future__ import annotations

import pytest

from .fault_matrix import CASES, CONNECTIONS, FRAMINGS, Case, run

SAMPLE = [case for index, case in enumerate(CASES) if case.fault in {*CONNECTIONS, *FRAMINGS} or index % 23 == 0]
PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_no_case_of_the_sample_fails(part: int) -> None:
    failed: list[tuple[Case, str]] = list(run(SAMPLE[part::PARTS]))
    assert [f"{case}: {how}" for case, how in failed] == []
