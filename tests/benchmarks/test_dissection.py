"""The measurements of the similarities run, and measure two ways to the same scores."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.dissection import Case, _ours, _shards
from benchmarks.published import FORMULAS
from tests.support.places import ROOT


@pytest.mark.slow
def test_every_similarity_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "dissection.json"
    command = [sys.executable, "-m", "benchmarks", "dissection", "--quick", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(path.read_text())["rows"]
    *compared, streamed = rows
    assert [row["similarity"] for row in compared] == ["cos", "soft_wpmi", "rank_reorder"]
    assert all(row["seconds"] > 0 and row["baseline_seconds"] > 0 and row["ratio"] > 0 for row in compared)
    assert all(row["peak_bytes"] >= 0 and row["baseline_peak_bytes"] >= 0 for row in compared)
    assert streamed["baseline_seconds"] is streamed["ratio"] is None
    assert 0 < streamed["peak_bytes"] < 3e9


@pytest.mark.slow
def test_quick_is_refused_elsewhere() -> None:
    command = [sys.executable, "-m", "benchmarks", "static", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--quick: only dissection, accuracy, labels have small sizes" in done.stderr


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
