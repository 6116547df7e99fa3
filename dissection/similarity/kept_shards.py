"""Base of similarities that need the whole probing set at once, as they cannot be summed up image by image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import Self

from lwta.dissection.recording.activations import DenseActivations, WinnerActivations
from lwta.dissection.recording.recording import Shard


class Columns(NamedTuple):
    """Activations sorted by neuron, then by image; for competitive layers, only the wins."""

    values: Tensor
    """Activation of each entry, (E,) float32."""
    images: Tensor
    """Image of each entry, (E,) int32, 0…N−1."""
    starts: Tensor
    """First entry of each neuron, (D + 1,) int64: those of neuron i are starts[i]…starts[i + 1] − 1."""
    size: int
    """Number of images, N."""

    def sums(self, entries: Tensor) -> Tensor:
        """Sum of (E,) numbers over each neuron's entries, (D,) float64."""
        return torch.bincount(self.neurons(), entries.double(), minlength=len(self.starts) - 1)

    def neurons(self) -> Tensor:
        """Neuron that each entry belongs to, (E,) int64."""
        return torch.arange(len(self.starts) - 1).repeat_interleave(self.starts.diff())

    def where(self, mask: Tensor) -> Columns:
        """Return only the entries at which an (E,) bool mask is True."""
        before = torch.cat([torch.zeros(1, dtype=torch.int64), mask.cumsum(0)])
        return Columns(self.values[mask], self.images[mask], before[self.starts], self.size)

    def rows(self, first: int, last: int, absent: float = 0.0) -> Tensor:
        """Activations of neurons first…last − 1, (last − first, N) float32; ``absent`` where there is no entry."""
        part = slice(int(self.starts[first]), int(self.starts[last]))
        neurons = torch.arange(last - first).repeat_interleave(self.starts[first : last + 1].diff())
        rows = torch.full((last - first, self.size), absent)
        rows[neurons, self.images[part].long()] = self.values[part]
        return rows


class KeepsShards:
    """Base class of similarities that keep every shard: N·d embeddings, and N·D activations or only the wins."""

    def __init__(self) -> None:
        self._shards: list[Shard] = []

    def update(self, shard: Shard) -> None:
        """Add a shard of the probing set."""
        self._shards.append(shard)

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""
        self._shards += other._shards

    def _by_rank(self) -> tuple[Tensor, Columns, Tensor]:
        """Embeddings (N, d) and activations in the order of the images' ranks, and a mask (D,) of the active neurons.

        Whatever is computed from them cannot depend on how the images were cut into shards.

        Raises:
            ValueError: no shard was added.
        """
        if not self._shards:
            raise ValueError("there is nothing to score: no shard was taken in")
        order = torch.cat([shard.ranks for shard in self._shards]).argsort()
        features = torch.cat([shard.features for shard in self._shards])[order]
        activations = [shard.activations for shard in self._shards]
        active = torch.stack([part.active() for part in activations]).any(0)
        winners = [part for part in activations if isinstance(part, WinnerActivations)]
        dense = [part for part in activations if isinstance(part, DenseActivations)]
        return features, _of_winners(winners, order) if winners else _of_dense(dense, order), active


def _of_dense(parts: list[DenseActivations], order: Tensor) -> Columns:
    values = torch.cat([part.values for part in parts])[order].T
    neurons, count = values.shape
    images = torch.arange(count, dtype=torch.int32).repeat(neurons)
    return Columns(values.flatten(), images, torch.arange(neurons + 1) * count, count)


def _of_winners(parts: list[WinnerActivations], order: Tensor) -> Columns:
    count, neurons = len(order), parts[0].neurons
    places = torch.empty_like(order)
    places[order] = torch.arange(count)
    units = torch.cat([part.units for part in parts]).long()
    images = places.repeat_interleave(torch.cat([part.counts for part in parts]))
    keys, by_neuron = (units * count + images).sort()
    starts = torch.searchsorted(keys, torch.arange(neurons + 1) * count)
    return Columns(torch.cat([part.values for part in parts])[by_neuron], (keys % count).int(), starts, count)
