"""What the accuracy benchmark keeps and sums up."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

accuracy = pytest.importorskip("benchmarks.accuracy", reason="needs a checkout")


def test_a_finished_run_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(accuracy, "STORE", tmp_path)
    monkeypatch.setattr(accuracy, "_train_digits", lambda **settings: calls.append(settings) or {"average": 0.5})
    monkeypatch.setattr(accuracy.torch, "set_num_threads", lambda number: None)
    jobs = [accuracy._digits(U, 0, quick=True) for U in (2, 4, 2)]
    assert [accuracy._stored(job) for job in jobs] == [{"average": 0.5}] * 3
    assert [settings["U"] for settings in calls] == [2, 4]
    accuracy._stored(jobs[0]._replace(settings={**jobs[0].settings, "epochs": 6}))
    assert len(calls) == 3


def test_mean_and_spread() -> None:
    row = accuracy._summary("digits", 2, None, [{"argmax": 0.5}, {"argmax": 0.7}, {"argmax": 0.75}])
    assert row["argmax"] == 0.65
    assert row["argmax_sd"] == round(statistics.stdev([0.5, 0.7, 0.75]), 4)
    assert accuracy._summary("trained", 2, None, [{"argmax": 0.5}])["argmax_sd"] is None
