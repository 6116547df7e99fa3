"""The whole probe at once, for similarities that need every image when the concepts are known."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import Self

from lwta.dissection.activations import DenseActivations, WinnerActivations
from lwta.dissection.similarity.base import Shard

TILE = 2**22
"""Similarities of images and concepts that exist at a time."""


class Winnings(NamedTuple):
    """When and how strongly the neurons answered, by image or by neuron."""

    images: Tensor
    """(E,) int64: row of the image."""
    neurons: Tensor
    """(E,) int64."""
    values: Tensor
    """(E,) float32."""


class Probed(NamedTuple):
    """A whole probe in the order of its keys: a function of the images alone, however they came."""

    features: Tensor
    """(N, d) float32."""
    winnings: Winnings
    """Of every win or, without competition, of every neuron on every image; rising by image, then neuron."""
    answered: Tensor
    """(D,) bool: whether a neuron won on any image or, without competition, was other than 0 on any."""

    def tiles(self, concepts: int) -> list[slice]:
        """Parts of the images, such that the similarities of one with the concepts are at most `TILE`."""
        step = max(TILE // max(concepts, 1), 1)
        return [slice(start, min(start + step, len(self.features))) for start in range(0, len(self.features), step)]

    def by_neuron(self, rows: slice, weights: Tensor) -> Tensor:
        """(D, n) float32 of these images, a weight (E,) for each win and 0 elsewhere; sparse where that saves work."""
        edges = torch.tensor([rows.start, rows.stop])
        part = slice(*torch.searchsorted(self.winnings.images, edges).tolist())
        images, neurons = self.winnings.images[part] - rows.start, self.winnings.neurons[part]
        shape = (len(self.answered), rows.stop - rows.start)
        if 2 * len(images) > shape[0] * shape[1]:
            dense = torch.zeros(shape)
            dense[neurons, images] = weights[part].float()
            return dense
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse")  # that its interface may change: seen by the tests
            places = torch.stack([neurons, images])
            return torch.sparse_coo_tensor(places, weights[part].float(), shape).to_sparse_csr()


class AllImages:
    """Gathers shards into a `Probed`. Memory: N·d numbers for the embeddings, and three for each win."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor, Winnings]] = []
        self._answered: Tensor | None = None

    def add(self, shard: Shard) -> None:
        """Take in a shard."""
        self._take([(shard.ranks, shard.features, _winnings(shard.activations))], shard.activations.answered())

    def merge(self, other: Self) -> None:
        """Take in all that ``other`` took in."""
        if other._answered is not None:
            self._take(other._parts, other._answered)

    def _take(self, parts: list[tuple[Tensor, Tensor, Winnings]], answered: Tensor) -> None:
        self._parts += parts
        self._answered = answered if self._answered is None else self._answered | answered

    def gathered(self) -> Probed:
        """What was taken in; ValueError if there was nothing."""
        if self._answered is None:
            raise ValueError("there is nothing to score: no shard was taken in")
        ranks, features = (torch.cat(parts) for parts in list(zip(*self._parts, strict=True))[:2])
        place = torch.empty_like(ranks)
        place[ranks.argsort()] = torch.arange(len(ranks))
        ends = torch.tensor([len(part[0]) for part in self._parts]).cumsum(0)
        starts = [0, *ends[:-1].tolist()]
        images = torch.cat([place[start + part[2].images] for start, part in zip(starts, self._parts, strict=True)])
        neurons = torch.cat([part[2].neurons for part in self._parts])
        values = torch.cat([part[2].values for part in self._parts])
        order = (images * len(self._answered) + neurons).argsort()
        winnings = Winnings(images[order], neurons[order], values[order])
        return Probed(features[ranks.argsort()], winnings, self._answered)


def _winnings(activations: DenseActivations | WinnerActivations) -> Winnings:
    if isinstance(activations, WinnerActivations):
        images = torch.arange(len(activations)).repeat_interleave(activations.counts)
        return Winnings(images, activations.units.long(), activations.values)
    images, neurons = torch.meshgrid(*map(torch.arange, activations.values.shape), indexing="ij")
    return Winnings(images.flatten(), neurons.flatten(), activations.values.flatten())
