"""Jensen-Shannon similarity of two distributions over the images: the neuron's and the concept's."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import Self

from lwta.dissection.similarity.base import Shard
from lwta.dissection.similarity.images import AllImages, Probed

TILE = 2**22  # similarities of images and concepts that exist at a time


class JSD:
    """score[i, m] = 1 − JSD(q_i, p_m) in bits, between 0 and 1, of two distributions over the N images.

    q_i is the neuron's activation less its minimum over the images, divided by the sum; a neuron that is the same on
    all images has the uniform one. p_m is softmax_n(P[n, m] / T). DISCOVER (arXiv 2310.04929) announces a
    Jensen-Shannon similarity and does not define it: this definition is this library's own.

    A distribution over images needs all of them, so embeddings, N·d numbers, and three numbers for each win are kept,
    and finalizing takes N·D·M logarithms, in tiles: for probes of thousands of images, not of millions.

    Args:
        temperature: T > 0. Small, and only the images most similar to a concept count; but activations spread over
            many images, and then below about 0.1 most neurons get the concept that spreads most.

    Raises:
        ValueError: ``temperature`` is not positive and finite.

    Example:
        >>> from lwta.dissection.activations import DenseActivations
        >>> similarity = JSD()
        >>> similarity.update(Shard(torch.arange(2), torch.eye(2), DenseActivations(torch.tensor([[0.0], [3.0]]))))
        >>> similarity.finalize(torch.eye(2)).argmax().item()
        1
    """

    name = "jsd"

    def __init__(self, *, temperature: float = 0.2) -> None:
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be positive and finite, got {temperature}")
        self.temperature = temperature
        self._images = AllImages()

    def update(self, shard: Shard) -> None:
        """Take in a shard."""
        self._images.add(shard)

    def merge(self, other: Self) -> None:
        """Take in all that ``other`` took in."""
        self._images.merge(other._images)

    def finalize(self, text_features: Tensor) -> Tensor:
        """(D, M) float32; NaN for a neuron that never answered."""
        probed = self._images.gathered()
        q = _distributions(probed)
        own = _entropy(q)
        columns = []
        for T in text_features.split(max(TILE // len(q), 1)):
            concepts = torch.softmax(probed.features @ T.T / self.temperature, 0)
            columns += [1 - _entropy((q + p) / 2) + (own + _entropy(p)) / 2 for p in concepts.T[:, :, None]]
        scores = torch.stack(columns, dim=1)
        scores[~probed.answered] = float("nan")
        return scores.float()


def _distributions(probed: Probed) -> Tensor:
    """(N, D) float32: q of every neuron."""
    activations = torch.zeros(len(probed.features), len(probed.answered))
    activations[probed.winnings.images, probed.winnings.neurons] = probed.winnings.values
    shifted = activations - activations.amin(0)
    totals = shifted.sum(0, dtype=torch.float64)
    return torch.where(totals > 0, shifted / totals.float(), 1 / len(shifted))


def _entropy(distributions: Tensor) -> Tensor:
    """(D,) float64, in bits, of distributions (N, D)."""
    return torch.special.entr(distributions).sum(0, dtype=torch.float64) / math.log(2)
