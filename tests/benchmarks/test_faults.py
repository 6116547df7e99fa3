"""Counts of faults, and what is recorded of them: every one is accounted for."""

from __future__ import annotations

import json

import pytest

from benchmarks.faults import ORDER, RESULT, SUBJECTS, Faulted, run, subject
from benchmarks.report import RESULTS
from ptx.driver import TARGETS


def test_every_recorded_fault_is_reported_changes_the_result_or_is_shown_equivalent() -> None:
    rows = json.loads((RESULTS / "injected-faults.json").read_text())["rows"]
    assert {(row["kernel"], row["target"]) for row in rows} == {
        (name, target) for name in SUBJECTS for target in TARGETS
    }
    ordering = {each.fault.name for each in ORDER}
    assert {row["fault"] for row in rows} == ordering | {fault.name for fault in RESULT}
    for row in rows:
        assert row["injected"] == row["reported"] + row["changed"] + row["equivalent"], row
        assert bool(row["reasons"]) == (row["equivalent"] > 0), row
        assert row["fault"] not in ordering or row["changed"] == 0, row


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
