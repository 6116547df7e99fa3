"""The benchmark of the similarities: its quick run, and the dense formulas that it compares with."""

from __future__ import annotations

import pytest
import torch

dense = pytest.importorskip("benchmarks.dense", reason="needs a checkout")

from benchmarks import dissection  # noqa: E402
from lwta.dissection.activations import DenseActivations  # noqa: E402
from lwta.dissection.similarity import Shard, find_similarity  # noqa: E402


@pytest.mark.slow
def test_quick_run_has_all_rows() -> None:
    rows = dissection.run(quick=True)
    assert [row["similarity"] for row in rows] == [*dissection.SIZES, "cos"]
    for row in rows:
        assert row["seconds"] > 0
        assert (row["ratio"] is None) == (row["similarity"] not in dense.DENSE or row is rows[-1])


@pytest.mark.parametrize("name", dense.DENSE)
def test_dense_formulas_score_as_the_library_does(name: str) -> None:
    """Else the times would be of two different things."""
    features, texts = (torch.nn.functional.normalize(torch.rand(n, 16), dim=1) for n in (400, 20))
    activations = torch.randn(400, 6)
    similarity = find_similarity(name)()
    similarity.update(Shard(torch.arange(400), features, DenseActivations(activations)))
    ours, theirs = similarity.finalize(texts), dense.DENSE[name](features @ texts.T, activations)
    tolerance = 0.5 if name == "rank_reorder" else 1e-4  # theirs draws its baseline
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
