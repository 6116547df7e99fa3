"""Faults put into compiled kernels, one at a time: each is reported, or proven to be none."""

from __future__ import annotations

import pytest

from benchmarks.faults import IDLE, SUBJECTS, UNUSED, Faulted, subject
from benchmarks.ordering import FENCED, LATER, NEVER, NO_CONFLICT, NOTHING
from ptx.driver import TARGETS

QUICK = ("kl_to_uniform",)
CASES = [
    pytest.param((name, target), marks=() if name in QUICK else pytest.mark.slow, id=f"{name}-{target}")
    for name in SUBJECTS
    for target in TARGETS
]
every_kernel = pytest.mark.parametrize("faulted", CASES, indirect=True)


@pytest.fixture(scope="module")
def faulted(request: pytest.FixtureRequest) -> Faulted:
    return subject(*request.param)


@every_kernel
def test_broken_barriers_waits_and_fences_are_reported_exactly_where_they_order_something(faulted: Faulted) -> None:
    for outcome in faulted.order():
        reasons = set(outcome.spared.split("; ")) - {""}
        assert reasons <= {NO_CONFLICT, NOTHING, LATER, NEVER, FENCED}
        assert bool(outcome.report) != bool(reasons), outcome
        assert not outcome.changed, outcome


@every_kernel
def test_broken_stores_masks_and_shuffles_are_reported_or_change_the_result(faulted: Faulted) -> None:
    for outcome in faulted.result():
        assert outcome.report or outcome.changed or outcome.spared in (IDLE, UNUSED), outcome
