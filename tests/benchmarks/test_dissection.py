"""The measurements of the similarities run, and measure two ways to the same scores."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.dissection import Case, _ours, _shards
from benchmarks.published import FORMULAS


@pytest.mark.slow
def test_similarities_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dissection.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "dissection", "--quick", "--json", str(path)])
    assert main() == 0
    compared, streamed = json.loads(path.read_text())["rows"]
    assert (compared["similarity"], streamed["similarity"]) == ("soft_wpmi", "cos")
    assert compared["seconds"] > 0
    assert compared["baseline_seconds"] > 0
    assert compared["ratio"] > 0
    assert compared["peak_bytes"] >= 0
    assert compared["baseline_peak_bytes"] >= 0
    assert streamed["baseline_seconds"] is streamed["ratio"] is None
    assert 0 < streamed["peak_bytes"] < 3e9


def test_quick_is_refused_elsewhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "static", "--quick"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "--quick: only dissection, accuracy, labels have small sizes" in capsys.readouterr().err


@pytest.mark.parametrize("name", FORMULAS)
def test_both_sides_compute_the_same(name: str) -> None:
    case = Case(name, 2500, 20, 32)
    shards, texts = list(_shards(case)), torch.nn.functional.normalize(torch.randn(20, 512) + 0.5, dim=1)
    features = torch.cat([shard.features for shard in shards])
    activations = torch.cat([shard.activations.dense() for shard in shards])
    published = FORMULAS[name](features, texts, activations)
    ours = _ours(case, shards, texts)
    tolerance = {"rank_reorder": 0.2, "soft_wpmi": 1e-3, "wpmi": 1e-3}.get(name, 1e-5)  # five random orders; large sums
    torch.testing.assert_close(ours, published, rtol=tolerance if name == "rank_reorder" else 0, atol=tolerance)
