"""Abstention: the rule by which a neuron gets no label, as no word of the list fits it."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

from torch import Tensor

from lwta.dissection.trust.cross_validation import LEAST_IMAGES, Trust

NEVER = "never active"
"""Reason of a dead neuron."""
NOTHING = "nothing to predict: the neuron, or what the words say of it, is the same on all images"
"""Reason of a neuron that is constant on the images, or of which no word says anything."""


@dataclass(frozen=True)
class Abstention:
    """Rule that decides which labels are shown as such: one for all labelers.

    A label is shown if, on images by which it was not chosen, it predicts the neuron well (``r``), predicts no other
    neuron of the layer better, and few other neurons' labels predict the neuron better (``null_percentile``). Otherwise
    no word of the list fits, and only the closest is told. The two thresholds were chosen on output neurons of known
    class, of networks whose classes are in the images or are not (``python -m benchmarks labels`` prints precision
    against coverage).

    Example:
        >>> Abstention().r, Abstention().null_percentile
        (0.2, 95.0)
    """

    r: float = 0.2
    """Least cross-validated correlation of a neuron with what its label predicts."""
    null_percentile: float = 95.0
    """Least share, in percent, of the null that the correlation must exceed; see `Trust.null_percentile`."""

    def reasons(self, trust: Trust, active: Tensor) -> list[str | None]:
        """Return, for each neuron, why it gets no label; None if it gets one.

        Args:
            trust: figures of the labels.
            active: mask (D,) of the neurons that are not dead.
        """
        columns = (trust.r, trust.rank, trust.null_percentile, active)
        r, rank, percentile, alive = (column.tolist() for column in columns)
        return [self._reason(*neuron, trust.images) for neuron in zip(r, rank, percentile, alive, strict=True)]

    def _reason(self, r: float, rank: int, percentile: float, active: bool, images: int) -> str | None:
        if not active:
            return NEVER
        if images < LEAST_IMAGES:
            return f"only {images} images, too few to check a label ({LEAST_IMAGES} are needed)"
        if r != r:
            return NOTHING
        if r < self.r:
            return f"predicts too little: r = {floor(100 * r) / 100:.2f} on images left out, {self.r:.2f} is needed"
        if rank > 1:
            others = f"{rank - 1} other neurons" if rank > 2 else "another neuron"
            return f"not told apart: the words predict {others} of the layer better"
        if percentile < self.null_percentile:
            share = f"{100 - percentile:.0f} %"
            return (
                f"not its own: {share} of other neurons' words, or of words for shuffled activations, predict as well"
            )
        return None
