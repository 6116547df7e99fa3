"""Peaks: which concept a neuron is at its strongest for, as output neurons are for their class."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Self

from lwta.dissection.recording.recording import Shard
from lwta.dissection.similarity.correlation import Correlation
from lwta.dissection.similarity.soft_wpmi import SoftWPMI


class Peak:
    """Sum of `SoftWPMI` and `Correlation`, each standardised over the concepts of a neuron.

    The first looks at the images that excite a neuron most and knows no others; the second at all images, and weighs
    the strongest by their distance from the mean. After a softmax, where the strongest are far, both point to the class
    of an output neuron, and err on different ones (``python -m benchmarks labels``).

    Example:
        >>> import torch
        >>> from lwta.dissection.recording.activations import DenseActivations
        >>> peak = Peak()
        >>> peak.update(Shard(torch.arange(3), torch.eye(3), DenseActivations(torch.tensor([[0.1], [0.8], [0.1]]))))
        >>> peak.finalize(torch.eye(3)).argmax(1).tolist()
        [1]
    """

    name = "peak"

    def __init__(self) -> None:
        self._strongest, self._range = SoftWPMI(), Correlation()

    def update(self, shard: Shard) -> None:
        """Add a shard of the probing set."""
        self._strongest.update(shard)
        self._range.update(shard)

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""
        self._strongest.merge(other._strongest)
        self._range.merge(other._range)

    def finalize(self, text_features: Tensor) -> Tensor:
        """Return the scores, (D, M) float32; NaN for a neuron that is dead, 0 where all concepts are alike to it.

        Raises:
            ValueError: no shard was added, or there is only one concept.
        """
        strongest = self._strongest.finalize(text_features)
        correlation = self._range.finalize(text_features).nan_to_num(nan=0)  # constant, but perhaps not dead
        return _standardised(strongest) + _standardised(correlation)


def _standardised(scores: Tensor) -> Tensor:
    """Scores of each neuron with mean 0 and deviation 1 over the concepts, (D, M)."""
    centred = scores - scores.mean(1, keepdim=True)
    return centred / centred.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
