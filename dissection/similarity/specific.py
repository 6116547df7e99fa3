"""Specific words: those that pick a neuron out of its layer."""

from __future__ import annotations

import torch
from torch import Tensor

from lwta.dissection.moments.moments import Statistics
from lwta.dissection.similarity.base import FromMoments
from lwta.dissection.similarity.correlation import correlations

TEMPERATURE = 0.04
SHRINKAGE = 0.5


class Specific(FromMoments):
    """Log-probability, times a temperature, that a concept would pick this neuron out of its layer.

    score[i, m] = r_im − τ·log Σ_j exp(r_jm / τ), the sum over the neurons j of the layer, r their `Correlation` with
    the concept. It is 0 if the concept belongs to this neuron alone, and falls with every neuron that follows it too.

    Correlations are estimated with shrinkage, as a neuron's covariance with directions in which images hardly vary is
    mostly chance: its component along an eigenvector of cov(f) with eigenvalue λ counts λ / (λ + κ·λ̄), λ̄ the mean
    eigenvalue. Both parameters were chosen on random halves of photographs and several networks
    (``python -m benchmarks labels``).

    Args:
        temperature: τ > 0; smaller demands more specific words, at the cost of correlation.
        shrinkage: κ ≥ 0.

    Example:
        >>> from lwta.dissection.recording.activations import DenseActivations
        >>> from lwta.dissection.recording.recording import Shard
        >>> both, first = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])
        >>> specific = Specific()
        >>> specific.update(Shard(torch.arange(3), torch.eye(3), DenseActivations(torch.stack([both, first], 1))))
        >>> specific.finalize(torch.eye(3)).argmax(1).tolist()
        [1, 0]
    """

    name = "specific"

    def __init__(self, temperature: float = TEMPERATURE, shrinkage: float = SHRINKAGE) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if not shrinkage >= 0:
            raise ValueError(f"shrinkage must be 0 or more, got {shrinkage}")
        self.temperature, self.shrinkage = temperature, shrinkage

    def scores(self, statistics: Statistics, text_features: Tensor) -> Tensor:
        """Return the scores, (D, M) float32, at most 0; NaN for a constant neuron.

        Raises:
            ValueError: there is only one concept.
        """
        r = correlations(statistics, shrunk(statistics, self.shrinkage), text_features)
        for part in r.split(1024, dim=1):  # concepts at a time
            part.sub_(self.temperature * torch.logsumexp(part.nan_to_num(nan=-torch.inf) / self.temperature, 0))
        return r


def shrunk(statistics: Statistics, shrinkage: float) -> Tensor:
    """Return each neuron's covariance with the embeddings, (D, d), less of it in directions in which they hardly vary.

    Args:
        statistics: moments of the layer.
        shrinkage: κ; a component along an eigenvector with eigenvalue λ is multiplied by λ / (λ + κ·λ̄).
    """
    values, vectors = torch.linalg.eigh(statistics.covariance)
    values = values.clamp_min(0)
    kept = values / (values + shrinkage * values.mean()).clamp_min(torch.finfo(values.dtype).tiny)
    return (statistics.cross @ vectors * kept) @ vectors.T
