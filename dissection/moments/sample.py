"""Sample of the images of a recording, for figures that no moments hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import torch
from torch import Tensor
from typing_extensions import Self

from lwta.dissection.recording.activations import Activations, DenseActivations
from lwta.dissection.recording.layers import Layer
from lwta.dissection.recording.recording import Recording, Shard

SAMPLE = 4096
"""Number of images in a sample; of fewer images, the sample holds all."""


def sampled(keys: Sequence[str], size: int = SAMPLE) -> Tensor:
    """Return a mask (N,) of the images in the sample: those whose keys have the least hashes.

    Args:
        keys: keys of all images.
        size: number of images in the sample.

    Example:
        >>> sampled(["a", "b", "c", "d"], 2)
        tensor([False, False,  True,  True])
    """
    mask = torch.zeros(len(keys), dtype=torch.bool)
    order = sorted(range(len(keys)), key=lambda place: _digest(keys[place])) if len(keys) > size else range(len(keys))
    mask[list(order[:size])] = True
    return mask


def _digest(key: str) -> bytes:
    return blake2b(key.encode(errors="surrogatepass"), digest_size=8, person=b"lwta sample").digest()


class SampledRows:
    """Embeddings and activations of the sampled images, gathered shard by shard; equal in whatever order they come.

    Args:
        mask: (N,) bool by rank, the images in the sample.
    """

    def __init__(self, mask: Tensor) -> None:
        self._mask = mask
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, shard: Shard) -> None:
        """Add the sampled images of a shard."""
        mine = self._mask[shard.ranks]
        if mine.any():
            dense = shard.activations.select(mine).dense()
            self._parts.append((shard.ranks[mine], shard.features[mine], dense))

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""
        self._parts += other._parts

    def totals(self) -> dict[str, Tensor]:
        """Return ``ranks`` (n,), ``features`` (n, d) and ``values`` (n, D) of the sample, in the order of the ranks."""
        ranks, features, values = (torch.cat(part) for part in zip(*self._parts, strict=True))
        order = ranks.argsort()
        return {"ranks": ranks[order], "features": features[order], "values": values[order]}

    def state(self) -> dict[str, Tensor]:
        """Return what was gathered as tensors by name, from which `restore` takes it over."""
        return self.totals() if self._parts else {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what the `state` of another holds."""
        if state:
            self._parts.append((state["ranks"], state["features"], state["values"]))


class Sample(Recording):
    """Recording of one layer on the sampled images alone, with its activations as they are or changed.

    Args:
        keys: keys of the n images, in rising order.
        layer: the layer.
        heads: modules that are classification heads.
        features: (n, d) embeddings.
        values: (n, D) activations, the layer's function applied already.
    """

    def __init__(
        self, keys: Sequence[str], layer: Layer, heads: Iterable[str], features: Tensor, values: Tensor
    ) -> None:
        super().__init__(keys, [None] * len(keys), [layer], [], "auto", list(heads))
        self.features, self.values = features, values

    @property
    def numbers(self) -> range:
        """The one shard."""
        return range(1)

    def recorded_shards(self, module: str, numbers: Iterable[int]) -> Iterator[Shard]:
        """Not to be used: functions of outputs were applied before."""
        raise NotImplementedError("a sample holds activations after the layer's function")

    def some_shards(self, layer: str, numbers: Iterable[int]) -> Iterator[Shard]:
        """Yield the sample as one shard."""
        for _ in numbers:
            activations: Activations = DenseActivations(self.values)
            yield Shard(torch.arange(len(self.keys)), self.features, activations)

    def changed(self, values: Tensor) -> Sample:
        """Return the sample with other activations (n, D)."""
        (layer,) = self.chosen.values()
        return Sample(self.keys, layer, self.heads, self.features, values)
