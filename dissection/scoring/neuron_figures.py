"""What is known of every neuron besides its label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lwta.dissection.recording.activations import WinnerActivations
from lwta.dissection.recording.recording import Recording

MOST_FREQUENT = 3  # labels of images that are told of a neuron
TOP_IMAGES = 100  # whose labels are counted where nobody wins


class NeuronScores(NamedTuple):
    """Of the D neurons of a layer."""

    monosemanticity: Tensor
    """(D,) float64; NaN for a neuron whose activation is the same on all images, or other than 0 on fewer than two."""
    classes: list[list[tuple[str, float]]]
    """Of each neuron the most frequent labels among the images it won or, without competition, among those that excite
    it most, and their shares; nothing where the probe has no labels."""


def neuron_scores(recording: Recording, layer: str) -> NeuronScores:
    """Monosemanticity, and the labels of the images, of every neuron of a layer."""
    return NeuronScores(monosemanticity(recording, layer), frequent_classes(recording, layer))


def monosemanticity(recording: Recording, layer: str) -> Tensor:
    """(D,) float64: how similar the images are that excite a neuron (Pach et al., arXiv 2504.02821, eq. 5).

    The mean cosine of the CLIP embeddings e of two different images, weighted by the product of their activations a,
    which are brought to 0…1 by the neuron's least and largest: Σ_{n≠m} a_n·a_m·⟨e_n, e_m⟩ / Σ_{n≠m} a_n·a_m. Images on
    which a neuron lost count with its output there, 0. The double sum is ‖Σ a·e‖² less Σ a²‖e‖², so one pass over the
    recording is enough, and matrices of images by images never exist.
    """
    sums = _Sums()
    for shard in recording.shards(layer):
        sums.add(shard.activations.dense().double(), shard.features.double())
    return sums.weighted_cosine()


class _Sums:
    """Over images: of the activations v and their squares, of v·e, v²·‖e‖² and v·‖e‖², and of e and ‖e‖²."""

    def __init__(self) -> None:
        self._v = self._squares = self._ve = self._v2n = self._vn = self._e = self._n = torch.zeros(()).double()
        self._low, self._high = torch.tensor(float("inf")).double(), torch.tensor(float("-inf")).double()
        self._images = 0

    def add(self, v: Tensor, e: Tensor) -> None:
        """Take in (n, D) activations and (n, d) embeddings."""
        norms = e.square().sum(1)
        self._images += len(v)
        self._v, self._squares = self._v + v.sum(0), self._squares + v.square().sum(0)
        self._ve, self._v2n = self._ve + v.T @ e, self._v2n + v.square().T @ norms
        self._vn, self._e, self._n = self._vn + v.T @ norms, self._e + e.sum(0), self._n + norms.sum()
        self._low, self._high = torch.minimum(self._low, v.amin(0)), torch.maximum(self._high, v.amax(0))

    def weighted_cosine(self) -> Tensor:
        """(D,), of the weights a = (v − low) / (high − low)."""
        low, width = self._low, self._high - self._low
        weights = self._v - self._images * low
        own_weights = self._squares - 2 * low * self._v + self._images * low.square()
        mean = self._ve - low[:, None] * self._e
        own = self._v2n - 2 * low * self._vn + low.square() * self._n
        pairs = weights.square() - own_weights
        scores = (mean.square().sum(1) - own) / pairs
        return scores.masked_fill((width == 0) | (pairs <= 1e-12 * weights.square()), float("nan"))


def frequent_classes(recording: Recording, layer: str) -> list[list[tuple[str, float]]]:
    """Of each neuron, the most frequent labels of the images it won, and their shares; ties by name.

    Without competition, of the images that excite it most.
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
    """Neuron and image, by its rank, of every win; of ordinary layers, of the images that excite a neuron most."""
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
