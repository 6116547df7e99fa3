"""Figures of every neuron besides its label: monosemanticity, and the classes of its images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lwta.dissection.recording.activations import WinnerActivations
from lwta.dissection.recording.recording import Recording

MOST_FREQUENT = 3  # classes that are listed for a neuron
TOP_IMAGES = 100  # images of a neuron whose classes are counted where there is no competition


class NeuronScores(NamedTuple):
    """Figures of the D neurons of a layer."""

    monosemanticity: Tensor
    """Monosemanticity, (D,) float64; NaN for a neuron whose activation is the same on all images, or differs from its
    least on fewer than two."""
    classes: list[list[tuple[str, float]]]
    """Most frequent classes by neuron of the images it won (without competition, of those that excite it most),
    and their shares; empty if the probing set has no classes."""


def neuron_scores(recording: Recording, layer: str) -> NeuronScores:
    """Return the monosemanticity of every neuron of a layer, and the classes of its images."""
    return NeuronScores(monosemanticity(recording, layer), frequent_classes(recording, layer))


def monosemanticity(recording: Recording, layer: str) -> Tensor:
    """Monosemanticity: how similar the images are that excite a neuron (Pach et al., arXiv 2504.02821, eq. 5).

    It is the mean cosine of the CLIP embeddings e of two different images, weighted by the product of the neuron's
    activations a, which its least and largest bring to 0…1: Σ_{n≠m} a_n·a_m·⟨e_n, e_m⟩ / Σ_{n≠m} a_n·a_m. Images on
    which a neuron lost count with its output there, 0. The double sum is ‖Σ a·e‖² less Σ a²‖e‖², so one pass over the
    recording is enough, and matrices of images by images never exist.

    Returns:
        (D,) float64; NaN where it is not defined: see `NeuronScores`.
    """
    sums = _Sums()
    for shard in recording.shards(layer):
        sums.add(shard.activations.dense().double(), shard.features.double())
    return sums.weighted_cosine()


class _Sums:
    """Sums over images of activations v (D,), embeddings e (d,), their squared norms ‖e‖², and products of these."""

    def __init__(self) -> None:
        zero = torch.zeros((), dtype=torch.float64)
        self._count = 0
        self._v = zero  # (D,): Σ v
        self._v_squared = zero  # (D,): Σ v²
        self._v_e = zero  # (D, d): Σ v·e
        self._v_norm = zero  # (D,): Σ v·‖e‖²
        self._v_squared_norm = zero  # (D,): Σ v²·‖e‖²
        self._e = zero  # (d,): Σ e
        self._norm = zero  # (): Σ ‖e‖²
        self._low, self._high = zero + float("inf"), zero - float("inf")  # (D,): least and largest v

    def add(self, v: Tensor, e: Tensor) -> None:
        """Add the activations (n, D) and embeddings (n, d) of n images."""
        v_squared, norms = v.square(), e.square().sum(1)
        self._count += len(v)
        self._v = self._v + v.sum(0)
        self._v_squared = self._v_squared + v_squared.sum(0)
        self._v_e = self._v_e + v.T @ e
        self._v_norm = self._v_norm + v.T @ norms
        self._v_squared_norm = self._v_squared_norm + v_squared.T @ norms
        self._e = self._e + e.sum(0)
        self._norm = self._norm + norms.sum()
        self._low, self._high = torch.minimum(self._low, v.amin(0)), torch.maximum(self._high, v.amax(0))

    def weighted_cosine(self) -> Tensor:
        """Mean cosine of two different images, (D,), weighted by the product of their a = (v − low) / (high − low).

        The factor 1 / (high − low) cancels, so the sums below are of a = v − low.
        """
        low, width = self._low, self._high - self._low
        weights = self._v - self._count * low  # Σ a
        own_weights = self._v_squared - 2 * low * self._v + self._count * low.square()  # Σ a²
        weighted = self._v_e - low[:, None] * self._e  # Σ a·e
        own = self._v_squared_norm - 2 * low * self._v_norm + low.square() * self._norm  # Σ a²·‖e‖²
        pairs = weights.square() - own_weights
        scores = (weighted.square().sum(1) - own) / pairs
        return scores.masked_fill((width == 0) | (pairs <= 1e-12 * weights.square()), float("nan"))


def frequent_classes(recording: Recording, layer: str) -> list[list[tuple[str, float]]]:
    """Most frequent classes of the images that each neuron won, and their shares; equally frequent ones by name.

    In a layer without competition the images that excite the neuron most are counted.
    """
    neurons = len(recording.active(layer))
    names = sorted({label for label in recording.labels if label is not None})
    if not names:
        return [[] for _ in range(neurons)]
    number = {name: i for i, name in enumerate(names)}
    by_rank = torch.empty(len(recording.keys), dtype=torch.int64)
    by_rank[recording.ranks] = torch.tensor(
        [len(names) if label is None else number[label] for label in recording.labels]
    )
    counts = torch.zeros(neurons * (len(names) + 1), dtype=torch.int64)  # the last class is that of images without one
    for units, ranks in _wins(recording, layer):
        counts += torch.bincount(units * (len(names) + 1) + by_rank[ranks], minlength=len(counts))
    return [_shares(row, names) for row in counts.view(neurons, -1)[:, :-1]]


def _wins(recording: Recording, layer: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield neurons and image ranks of all wins or, without competition, of the images that excite each neuron most."""
    if recording.competitors(layer) is None:
        rank = {key: i for i, key in enumerate(recording.sorted_keys)}
        for neuron, images in enumerate(recording.top_images(layer, TOP_IMAGES)):
            ranks = [rank[key] for key, value in images if value > 0]
            yield torch.full((len(ranks),), neuron), torch.tensor(ranks, dtype=torch.int64)
        return
    for shard in recording.shards(layer):
        if isinstance(shard.activations, WinnerActivations):
            yield shard.activations.units.long(), shard.ranks[shard.activations.images()]


def _shares(counts: Tensor, names: Sequence[str]) -> list[tuple[str, float]]:
    total = int(counts.sum())
    order = counts.argsort(descending=True, stable=True)[:MOST_FREQUENT].tolist()
    return [(names[i], int(counts[i]) / total) for i in order if counts[i]]
