"""Jensen–Shannon similarity between where a neuron answers and where a concept is seen."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import Self

from lwta.dissection.similarity.base import Shard
from lwta.dissection.similarity.columns import KeptShards

TILE = 2**22  # similarities of images and concepts that exist at a time
TRIPLES = 2**18  # logarithms that exist at a time, one for every neuron, concept and image
IMAGES = 1024  # of them
SMALLEST = 1e-30  # density, lest its logarithm be infinite


class JSD:
    """score[i, m] = 1 − JSD(q_i, p_m) in bits, of distributions over the images: 1 if they are the same, 0 if disjoint.

    q_i is the neuron's activations, raised by as much as the most negative one requires and divided by their sum (by
    convention uniform if that is 0); an image that the neuron did not win has the activation 0. p_m =
    softmax_n(P_m/``temperature``) says where the concept is seen.

    DISCOVER (arXiv 2310.04929) names a Jensen–Shannon similarity but neither its paper nor its code defines it: this
    definition is this library's own.

    Softmax needs P of all images at once, so the embeddings of all of them are kept, N·d numbers, and every win or,
    without competition, all N·D activations; P exists in tiles of a few concepts. Computing takes N·D·M logarithms.

    Args:
        temperature: of the softmax over the images, above 0; with a small one p_m is a few images.

    Raises:
        ValueError: ``temperature`` is not above 0.

    Example:
        >>> from lwta.dissection.activations import DenseActivations
        >>> from lwta.dissection.similarity import Shard
        >>> jsd = JSD()
        >>> jsd.update(Shard(torch.arange(2), torch.eye(2), DenseActivations(torch.eye(2))))
        >>> jsd.finalize(torch.eye(2))
        tensor([[1., 0.],
                [0., 1.]])
    """

    name = "jsd"

    def __init__(self, *, temperature: float = 0.02) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.temperature = temperature
        self._kept = KeptShards()

    def update(self, shard: Shard) -> None:
        """Take in a shard."""
        self._kept.add(shard)

    def merge(self, other: Self) -> None:
        """Take in all that ``other`` took in."""
        self._kept.merge(other._kept)

    def finalize(self, text_features: Tensor) -> Tensor:
        """(D, M) float32; NaN for a neuron that never answered."""
        features, columns, answered = self._kept.by_rank()
        scores = torch.empty(len(answered), len(text_features))
        width = max(TILE // columns.size, 1)
        for T, part in zip(text_features.split(width), scores.split(width, dim=1), strict=True):
            p = (torch.softmax(T @ features.T / self.temperature, dim=1) * columns.size).clamp_min_(SMALLEST)
            for first, rows in zip(range(0, len(scores), width), part.split(width), strict=True):
                q = _distributions(columns.rows(first, first + len(rows)))
                rows.copy_(_similarity(q, p))
        return scores.masked_fill_(~answered[:, None], float("nan"))


def _distributions(activations: Tensor) -> Tensor:
    """Of (D, N) activations, each row with mean 1."""
    raised = activations - activations.amin(1, keepdim=True).clamp_max(0)
    means = raised.double().mean(1, keepdim=True)
    return torch.where(means > 0, raised / means, 1).float()


def _similarity(q: Tensor, p: Tensor) -> Tensor:
    """(D, M) float64 of (D, N) and (M, N) densities with mean 1.

    With φ(x) = x·log2 x, 1 − JSD in bits is half the mean of φ(q + p) − φ(q) − φ(p), since q + p has the mean 2.
    """
    sums = -(_phi(q).sum(1)[:, None] + _phi(p).sum(1))
    for q_images, p_images in zip(q.split(IMAGES, dim=1), p.split(IMAGES, dim=1), strict=True):
        height = max(TRIPLES // p_images.numel(), 1)
        p_images = p_images.contiguous()
        for q_rows, rows in zip(q_images.split(height), sums.split(height), strict=True):
            both = q_rows[:, None] + p_images
            rows += torch.log2(both).mul_(both).sum(2)
    return sums / (2 * q.shape[1])


def _phi(x: Tensor) -> Tensor:
    x = x.double()
    return torch.special.xlogy(x, x) / math.log(2)
