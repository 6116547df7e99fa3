"""A part of the images of a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

import torch
from torch import Tensor

from lwta.dissection.recording.activations import Activations, DenseActivations, WinnerActivations
from lwta.dissection.recording.recording import Recording, Shard


class Part(Recording):
    """A recording of some of the images, as if the probe had held no others.

    Args:
        recording: of all images; nothing of it is copied.
        chosen: whether an image belongs to the part, by its key.
    """

    def __init__(self, recording: Recording, chosen: Callable[[str], bool]) -> None:
        kept = [chosen(key) for key in recording.sorted_keys]
        self._whole, self._kept = recording, torch.tensor(kept, dtype=torch.bool)
        self._rank = self._kept.long().cumsum(0) - 1  # among the part's keys, by that among all
        pairs = [
            (key, label)
            for key, label, rank in zip(recording.keys, recording.labels, recording.ranks.tolist(), strict=True)
            if kept[rank]
        ]
        keys, labels = [key for key, _ in pairs], [label for _, label in pairs]
        super().__init__(keys, labels, recording.layers, [], recording.pool)

    @property
    def numbers(self) -> range:
        """Numbers of the shards of the whole."""
        return self._whole.numbers

    def some_shards(self, layer: str, numbers: Iterable[int]) -> Iterator[Shard]:
        """Yield what these shards of the whole hold of the part."""
        for shard in self._whole.some_shards(layer, numbers):
            mask = self._kept[shard.ranks]
            if mask.any():
                yield Shard(self._rank[shard.ranks[mask]], shard.features[mask], select(shard.activations, mask))


def select(activations: Activations, mask: Tensor) -> Activations:
    """The activations on some of the n images, by a mask (n,)."""
    if isinstance(activations, DenseActivations):
        return DenseActivations(activations.values[mask])
    wins = mask[activations.images()]
    return WinnerActivations(
        values=activations.values[wins],
        units=activations.units[wins],
        shares=activations.shares[wins],
        counts=activations.counts[mask],
        neurons=activations.neurons,
        competitors=activations.competitors,
    )


def is_held_out(key: str, share: float) -> bool:
    """Whether an image belongs to the held-out share of all images, by a hash of its key.

    The same key always gives the same answer, whatever else is in the probe; a larger share holds out a superset.

    Example:
        >>> sum(is_held_out(f"{i}.png", 0.3) for i in range(1000))
        265
    """
    return int.from_bytes(blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest(), "big") < share * 2**64
