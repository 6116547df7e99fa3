"""Cosines of cubes: small and large activations, and those far from zero."""

from __future__ import annotations

import pytest
import torch

from lwta import Winners
from lwta.dissection.recording.activations import DenseActivations, pool_winners
from lwta.dissection.recording.recording import Shard
from lwta.dissection.similarity import CosCubed
from tests.support.similarities import pieces, scored, shards, unit_rows


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("exponent", [-40, -37, -30, -20, -14, -8, 0, 8, 15, 25, 37])
def test_cos_cubed_finds_the_same_labels_at_every_scale(
    exponent: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "gpu":  # whose code runs on a CPU too
        monkeypatch.setattr(CosCubed, "_scores", CosCubed._scores_on_gpu)
    features, texts, activations = unit_rows(60, 8), unit_rows(20, 8), torch.randint(-9, 10, (60, 12)) / 8
    winners = Winners(activations[:, :6], torch.randint(2, (60, 6), dtype=torch.uint8), 2)
    for of in (DenseActivations, lambda values: pool_winners(winners._replace(values=values[:, :6]), "mean")):
        whole, scaled = (
            scored(CosCubed(), [Shard(torch.arange(60), features, of(values))], texts)
            for values in (activations * 8, (activations * 8 * 10.0**exponent).float())
        )
        assert torch.equal(scaled.argmax(1), whole.argmax(1))
        assert scaled.isfinite().all()
        assert exponent < 0 or torch.allclose(scaled, whole, atol=1e-6)


def test_cos_cubed_keeps_the_published_least_norm() -> None:
    features, texts, activations = unit_rows(60, 8), unit_rows(20, 8), torch.randn(60, 5)
    scores = [scored(CosCubed(), shards(features, activations * 10.0**e, pieces(60, 60)), texts) for e in (0, -3, -5)]
    norms = ((activations - activations.mean(0)) ** 3).norm(dim=0)
    torch.testing.assert_close(scores[1], scores[0] * norms[:, None] * 1e-9 / 1e-3, rtol=1e-4, atol=0)
    torch.testing.assert_close(scores[2], scores[1] * 1e-6, rtol=1e-4, atol=0)


def test_cos_cubed_of_activations_far_from_zero() -> None:
    """Their mean must not swallow their deviations from it."""
    features, texts = unit_rows(200, 8), unit_rows(20, 8)
    activations = torch.randn(200, 12) + 1000
    activations[:, 3] = 7
    a = (activations.double() - activations.double().mean(0)) ** 3
    P = features.double() @ texts.double().T
    P = (P - P.mean(0)) ** 3
    expected = (a / a.norm(dim=0).clamp_min(1e-3)).T @ (P / P.norm(dim=0).clamp_min(1e-3))
    scores = scored(CosCubed(), shards(features, activations, pieces(200, 64)), texts)
    torch.testing.assert_close(scores.double(), expected, rtol=0, atol=1e-6)
    assert (scores[3] == 0).all()
