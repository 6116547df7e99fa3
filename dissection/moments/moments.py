"""Moments of a layer by fold, and the statistics of any union of folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

CONSTANT = 1e-10
"""Share of a neuron's mean square below which its variance is rounding: the neuron is constant."""


class Statistics(NamedTuple):
    """Means and covariances of the D neurons of a layer and the embeddings of the images, over a set of folds.

    In float64; all but the last three are divided by the number of images.
    """

    images: float
    """Number of images."""
    mean: Tensor
    """Mean embedding, (d,)."""
    covariance: Tensor
    """Covariance of the embeddings, (d, d)."""
    means: Tensor
    """Mean activation of each neuron, (D,)."""
    deviations: Tensor
    """Standard deviation of each neuron's activation, (D,); 0 for a constant one."""
    cross: Tensor
    """Covariance of each neuron's activation in units of its deviation with the embeddings, (D, d).

    0 for a constant neuron. The correlation of a neuron with the signal ⟨f, v⟩ of a direction v is
    ``cross @ v / sqrt(v @ covariance @ v)``.
    """
    gram: Tensor
    """FᵀF, not centred, (d, d)."""
    squares: Tensor
    """Σa², not centred, (D,)."""
    products: Tensor
    """AᵀF, not centred, (D, d)."""

    def scales(self, directions: Tensor) -> Tensor:
        """Return the standard deviation of the signal of each direction (…, d), (…,) float64; 0 for a constant one."""
        directions = directions.double()
        variance = ((directions @ self.covariance) * directions).sum(-1).clamp_min(0)
        floor = 1e-12 * self.covariance.diagonal().sum() * directions.square().sum(-1)
        return torch.where(variance > floor, variance, 0).sqrt()


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the images of each of G folds: activations A (n, D), embeddings F (n, d), and their products.

    Everything that follows from them follows for any word list and any labeler, exactly, and without an image.

    Example:
        >>> one = torch.ones(1)
        >>> moments = Moments(one, torch.zeros(1, 2), torch.zeros(1, 2, 2), torch.zeros(1, 3), torch.zeros(1, 3),
        ...                   torch.zeros(1, 3, 2))
        >>> moments.neurons, moments.statistics().images
        (3, 1.0)
    """

    counts: Tensor
    """Number of images n, (G,) float64."""
    features: Tensor
    """Sum of the embeddings ΣF, (G, d) float64."""
    gram: Tensor
    """FᵀF, (G, d, d) float64."""
    sums: Tensor
    """Σa, (G, D) float64."""
    squares: Tensor
    """Σa², (G, D) float64."""
    products: Tensor
    """AᵀF, (G, D, d) float64."""

    @property
    def neurons(self) -> int:
        """Number of neurons, D."""
        return self.sums.shape[1]

    @property
    def folds(self) -> list[int]:
        """Numbers of the folds that hold images."""
        return self.counts.nonzero().flatten().tolist()

    def only(self, folds: Sequence[int]) -> Moments:
        """Return the moments of these folds alone."""
        return Moments(**{field.name: getattr(self, field.name)[list(folds)] for field in fields(self)})

    def statistics(self, folds: Sequence[int] | None = None) -> Statistics:
        """Return means and covariances over the union of some folds; None for all.

        Raises:
            ValueError: these folds hold no image.
        """
        part = self if folds is None else self.only(folds)
        count = float(part.counts.sum())
        if count == 0:
            raise ValueError("there is nothing to label: no image was taken in")
        gram, squares, products = part.gram.sum(0), part.squares.sum(0), part.products.sum(0)
        mean, means = part.features.sum(0) / count, part.sums.sum(0) / count
        covariance = gram / count - mean[:, None] * mean
        variances = squares / count - means.square()
        deviations = torch.where(variances > CONSTANT * squares / count, variances, 0).sqrt()
        cross = products / count - means[:, None] * mean
        cross = torch.where(deviations[:, None] > 0, cross / deviations[:, None], 0)
        return Statistics(count, mean, covariance, means, deviations, cross, gram, squares, products)
