"""Part of the images of a recording, chosen by key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

import torch
from torch import Tensor

from lwta.dissection.recording.activations import Activations, DenseActivations, WinnerActivations
from lwta.dissection.recording.recording import Recording, Shard


class Part(Recording):
    """Recording of some of the images of another, as if the probing set had held no others.

    Args:
        recording: the recording of all images; nothing of it is copied.
        chosen: returns, for the key of an image, whether the image belongs to the part.
    """

    def __init__(self, recording: Recording, chosen: Callable[[str], bool]) -> None:
        kept = [chosen(key) for key in recording.sorted_keys]
        self._whole, self._kept = recording, torch.tensor(kept, dtype=torch.bool)
        self._rank = self._kept.long().cumsum(0) - 1  # rank among the part's keys, by rank among all
        pairs = [
            (key, label)
            for key, label, rank in zip(recording.keys, recording.labels, recording.ranks.tolist(), strict=True)
            if kept[rank]
        ]
        keys, labels = [key for key, _ in pairs], [label for _, label in pairs]
        super().__init__(keys, labels, list(recording.chosen.values()), [], recording.pool, recording.heads)

    @property
    def numbers(self) -> range:
        """Numbers of the shards of the whole recording."""
        return self._whole.numbers

    def recorded_shards(self, module: str, numbers: Iterable[int]) -> Iterator[Shard]:
        """Yield the part's images of these shards of the whole recording; a shard without any is left out."""
        for shard in self._whole.recorded_shards(module, numbers):
            mask = self._kept[shard.ranks]
            if mask.any():
                yield Shard(self._rank[shard.ranks[mask]], shard.features[mask], select(shard.activations, mask))


def select(activations: Activations, mask: Tensor) -> Activations:
    """Return the activations on those of the n images at which a mask (n,) is True."""
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
    """Return whether an image belongs to the held-out share of all images, by a hash of its key.

    The result for a key is the same whatever else is in the probing set; a larger share holds out a superset.

    Example:
        >>> sum(is_held_out(f"{i}.png", 0.3) for i in range(1000))
        265
    """
    return int.from_bytes(blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest(), "big") < share * 2**64
