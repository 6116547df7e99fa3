"""Ceiling: how well any words of CLIP's space could predict a neuron."""

from __future__ import annotations

import torch
from torch import Tensor

from lwta.dissection.moments.moments import Moments, Statistics
from lwta.dissection.trust.cross_validation import LEAST_IMAGES, HeldOut

PENALTIES = (0.1, 0.3, 1.0, 3.0)
"""Ridge penalties that are tried, in units of the mean eigenvalue of the embeddings' covariance."""


def ceiling(moments: Moments) -> Tensor:
    """Return how well a ridge regression on all dimensions of the embeddings predicts each neuron, (D,) float64.

    It is the cross-validated correlation of the best of `PENALTIES` for the layer, NaN where undefined. A label that
    comes near it says all that CLIP sees of the neuron; where it is low, no list of words could do better.

    Args:
        moments: moments of the layer by fold.
    """
    folds = moments.folds
    nothing = torch.full((moments.neurons,), torch.nan, dtype=torch.float64)
    if len(folds) < 2 or moments.counts.sum() < LEAST_IMAGES:
        return nothing
    held_out = [HeldOut(moments.neurons) for _ in PENALTIES]
    for fold in folds:
        known, new = moments.statistics([other for other in folds if other != fold]), moments.statistics([fold])
        for penalty, sums in zip(PENALTIES, held_out, strict=True):
            sums.add(known, [new], ridge(known, penalty))
    found = [sums.own() for sums in held_out]
    return max(found, key=lambda r: float(r.nanmean().nan_to_num(nan=-1)))


def ridge(statistics: Statistics, penalty: float) -> Tensor:
    """Return the direction of the embeddings that predicts each neuron by ridge regression, (D, d) float64.

    Args:
        statistics: moments of the layer.
        penalty: in units of the mean eigenvalue of the embeddings' covariance, above 0.
    """
    mean = statistics.covariance.diagonal().mean().clamp_min(1e-12)
    penalised = statistics.covariance + penalty * mean * torch.eye(len(statistics.mean), dtype=torch.float64)
    return torch.linalg.solve(penalised, statistics.cross.T).T
