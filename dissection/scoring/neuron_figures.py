"""Figures of every neuron besides its label: monosemanticity, and the classes of its images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lwta.dissection.moments.measuring import moments_of, sample_of
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
    sample = sample_of(recording, layer)
    mean = moments_of(recording, layer).statistics().mean
    return NeuronScores(monosemanticity(sample.values, sample.features, mean), frequent_classes(recording, layer))


def monosemanticity(values: Tensor, features: Tensor, mean: Tensor) -> Tensor:
    """Monosemanticity: how similar the images are that excite a neuron (after Pach et al., arXiv 2504.02821, eq. 5).

    It is the mean cosine of e_n and e_m, of two different images, weighted by the product of the neuron's activations
    a, which its least and largest bring to 0…1: Σ_{n≠m} a_n·a_m·⟨e_n, e_m⟩ / Σ_{n≠m} a_n·a_m. Here e is the CLIP
    embedding less the mean of the probing set, at length 1. The published figure takes the embeddings as they are,
    which have so much in common that it hardly differs from the mean cosine of any two images; with the mean taken
    away, it is 0 for activations that have nothing to do with the images. The double sum is ‖Σ a·e‖² less Σ a², so
    matrices of images by images never exist.

    Args:
        values: (n, D) activations.
        features: (n, d) embeddings.
        mean: (d,) mean embedding of the probing set.

    Returns:
        (D,) float64; NaN where it is not defined: see `NeuronScores`.

    Example:
        >>> embeddings = torch.eye(2)[[0, 0, 1, 1]]
        >>> monosemanticity(torch.tensor([[1.0], [1.0], [0.0], [0.0]]), embeddings, embeddings.mean(0))
        tensor([1.0000], dtype=torch.float64)
    """
    centred = features.double() - mean
    e = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-12)
    a = values.double()
    a = a - a.amin(0)
    a = a / a.amax(0).clamp_min(torch.finfo(a.dtype).tiny)
    total, own = a.sum(0), a.square().sum(0)
    pairs = total.square() - own
    own_cosines = (a.square() * e.square().sum(1)[:, None]).sum(0)
    scores = ((a.T @ e).square().sum(1) - own_cosines) / pairs
    return scores.masked_fill(pairs <= 1e-12 * total.square(), float("nan"))


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
