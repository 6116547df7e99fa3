"""What every similarity is: an accumulator over shards of images."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from typing_extensions import Self

from lwta.dissection.recording.recording import Shard


class Similarity(Protocol):
    """Similarity of every neuron with every concept over the probe, summed up shard by shard.

    The scores do not depend, not by a bit, on how the images are cut into shards, in which order the shards come, or
    which of them were merged first. Matrices of images by neurons or images by concepts are never formed.
    """

    @property
    def name(self) -> str:
        """By which users ask for it."""
        ...

    def update(self, shard: Shard) -> None:
        """Take in a shard. Every image of the probe comes once."""

    def merge(self, other: Self) -> None:
        """Take in all that ``other`` took in."""

    def finalize(self, text_features: Tensor) -> Tensor:
        """Scores against M concepts; shards may follow, and other concepts.

        Args:
            text_features: (M, d) float32 normalised CLIP text embeddings. If they are on a GPU, similarities that have
                kernels are computed there; the scores are then those of the CPU up to rounding.

        Returns:
            (D, M) float32 on the CPU, higher is more similar; NaN for a dead neuron, which has no label.
        """
        ...
