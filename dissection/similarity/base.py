"""Protocol of the similarities: accumulators over shards of images."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from typing_extensions import Self

from lwta.dissection.recording.recording import Shard


class Similarity(Protocol):
    """Accumulator of the similarity of every neuron with every concept over the probing set, shard by shard.

    The scores are the same, bit for bit, however the images are cut into shards, in whatever order the shards come,
    and whichever of them are merged first. Matrices of images by neurons or images by concepts are never formed.
    """

    @property
    def name(self) -> str:
        """Name by which users ask for the similarity."""
        ...

    def update(self, shard: Shard) -> None:
        """Add a shard; every image of the probing set must be added once."""

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""

    def finalize(self, text_features: Tensor) -> Tensor:
        """Return the scores against M concepts; later, shards may be added and other concepts scored.

        Args:
            text_features: (M, d) float32 normalised CLIP text embeddings. If they are on a GPU, similarities that have
                kernels are computed there; the scores are then those of the CPU up to rounding.

        Returns:
            Scores, (D, M) float32 on the CPU, higher is more similar; NaN for a dead neuron, which has no label.

        Raises:
            ValueError: no shard was added.
        """
        ...
