"""Peaks: which concept a neuron is at its strongest for, as output neurons are for their class."""

from __future__ import annotations

from torch import Tensor

from lwta.dissection.moments.moments import Statistics
from lwta.dissection.similarity.base import BesideMoments
from lwta.dissection.similarity.correlation import Correlation
from lwta.dissection.similarity.soft_wpmi import SoftWPMI


class Peak(BesideMoments):
    """Sum of `SoftWPMI` and `Correlation`, each standardised over the concepts of a neuron.

    The first looks at the images that excite a neuron most and knows no others; the second at all images, and weighs
    the strongest by their distance from the mean. After a softmax, where the strongest are far, both point to the class
    of an output neuron, and err on different ones (``python -m benchmarks labels``).

    Example:
        >>> import torch
        >>> from lwta.dissection.recording.activations import DenseActivations
        >>> from lwta.dissection.recording.recording import Shard
        >>> peak = Peak()
        >>> peak.update(Shard(torch.arange(3), torch.eye(3), DenseActivations(torch.tensor([[0.1], [0.8], [0.1]]))))
        >>> peak.finalize(torch.eye(3)).argmax(1).tolist()
        [1]
    """

    name = "peak"

    def of_images(self) -> SoftWPMI:
        """Return a fresh accumulator of the images that excite each neuron most."""
        return SoftWPMI()

    def combined(self, of_images: Tensor, statistics: Statistics, text_features: Tensor) -> Tensor:
        """Return the scores, (D, M) float32; NaN for a neuron that is dead, 0 where all concepts are alike to it.

        Args:
            of_images: scores of `SoftWPMI`, (D, M).
            statistics: moments of the same images.
            text_features: (M, d) float32 normalised text embeddings, on the CPU.

        Raises:
            ValueError: there is only one concept.
        """
        r = Correlation().scores(statistics, text_features).nan_to_num(nan=0)  # constant, but perhaps not dead
        return _standardised(of_images) + _standardised(r)


def _standardised(scores: Tensor) -> Tensor:
    """Scores of each neuron with mean 0 and deviation 1 over the concepts, (D, M)."""
    centred = scores - scores.mean(1, keepdim=True)
    return centred / centred.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
