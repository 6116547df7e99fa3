"""What is known of every neuron of a layer beside its name: of how many kinds the images are that excite it."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor

from lwta.dissection.activations import WinnerActivations
from lwta.dissection.recording import Recording

CLASSES = 3
TOP = 100  # images that stand for a neuron without competition


class NeuronScores(NamedTuple):
    """Of the D neurons of a layer."""

    monosemanticity: Tensor
    """(D,) float64: mean cosine of the embeddings of two images, weighted by the neuron's min-max normalised outputs
    (arXiv 2504.02821); NaN where undefined."""
    classes: list[list[tuple[str, float]]]
    """The most frequent labels of the images that each won or, without competition, of its top images, and their share;
    empty where the probe has no labels."""


def neuron_scores(recording: Recording, layer: str) -> NeuronScores:
    """Two passes over what was recorded of a layer."""
    low, high = torch.tensor(float("inf")), torch.tensor(float("-inf"))
    for shard in recording.shards(layer):
        dense = shard.activations.dense()
        low, high = torch.minimum(low, dense.amin(0)), torch.maximum(high, dense.amax(0))
    total = mass = squares = torch.zeros((), dtype=torch.float64)
    for shard in recording.shards(layer):
        weight = ((shard.activations.dense() - low) / (high - low)).double()  # NaN for a constant neuron
        total = total + weight.T @ shard.features.double()
        mass, squares = mass + weight.sum(0), squares + weight.square().sum(0)
    pairs = mass.square() - squares
    mean = (total.square().sum(1) - squares) / pairs
    return NeuronScores(mean.where(pairs > 0, float("nan")), _classes(recording, layer))


def _classes(recording: Recording, layer: str) -> list[list[tuple[str, float]]]:
    of = dict(zip(recording.keys, recording.labels, strict=True))
    if all(label is None for label in recording.labels):
        return [[] for _ in range(len(recording.answered(layer)))]
    counts = [Counter[str]() for _ in range(len(recording.answered(layer)))]
    if recording.competitors(layer) is None:
        for count, row in zip(counts, recording.top_images(layer, TOP), strict=True):
            count.update(label for key, _ in row if (label := of[key]) is not None)
    else:
        for shard in recording.shards(layer):
            activations = shard.activations
            if isinstance(activations, WinnerActivations):
                images, units = activations.images().tolist(), activations.units.tolist()
                for image, unit in zip(images, units, strict=True):
                    label = of[recording.sorted_keys[int(shard.ranks[image])]]
                    if label is not None:
                        counts[unit][label] += 1
    return [
        [(label, n / count.total()) for label, n in sorted(count.items(), key=lambda one: (-one[1], one[0]))[:CLASSES]]
        for count in counts
    ]
