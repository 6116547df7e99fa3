"""Counts of faults, and what is recorded of them: every one is accounted for."""

from __future__ import annotations

import pytest

from benchmarks.faults import SUBJECTS, Faulted, run, subject
from ptx.driver import TARGETS


def test_rows_count_what_became_of_each_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.faults.SUBJECTS", {"kl_to_uniform": SUBJECTS["kl_to_uniform"]})
    monkeypatch.setattr(Faulted, "result", lambda self: iter(()))
    rows = list(run())
    assert [(row["target"], row["fault"], row["injected"], row["reported"]) for row in rows] == [
        (target, "barrier left out", 1, 1) for target in TARGETS
    ]


def test_a_subject_is_launched_on_the_same_numbers_every_time() -> None:
    first, second = (subject("kl_to_uniform", "sm_90") for _ in range(2))
    assert [outcome.report for outcome in first.order()] == [outcome.report for outcome in second.order()]
    assert all((a == b).all() for a, b in zip(first._result, second._result, strict=True))
