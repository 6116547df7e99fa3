"""Label of a neuron: the words that are shown for it, how far to believe them, or why no word is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from lwta.dissection.trust.abstention import NEVER
from lwta.support.exports import without_nan

WORDS_SHOWN = 3
"""Number of words that tables and pages show of a label of several."""


def shown(words: Sequence[str], fits: bool, reason: str | None) -> str:
    """Return what stands in the place of a label: its words, or that no word fits, and the closest.

    Args:
        words: words of the label, or the closest where none fits; none for a dead neuron.
        fits: whether they fit.
        reason: why not.

    Example:
        >>> shown(["cat", "fur"], True, None), shown(["cat"], False, "predicts too little")
        ('cat + fur', 'no word fits (closest: cat)')
        >>> shown([], False, "never active")
        'never active'
    """
    if reason == NEVER:
        return NEVER
    named = " + ".join(words)
    return named if fits else f"no word fits (closest: {named})" if named else "no word fits"


class Label(NamedTuple):
    """Label of one neuron: its concept, or why no word of the list fits it, and the figures behind that.

    All figures from ``r`` on are of images by which the words were not chosen; see `lwta.dissection.trust`.

    Example:
        >>> label = Label("act", 0, "cat", 0.5, 7, (("dog", 0.25),), None, (("cat", 1.0),), r=0.41, rank=1)
        >>> label.concept, label.told_apart, label.text()
        ('cat', True, 'cat')
        >>> label._replace(concept=None, reason="never won").text()
        'no word fits (closest: cat)'
    """

    layer: str
    neuron: int
    concept: str | None
    """Name of the concept, of several words the one of most weight; None where no word fits, for the ``reason``."""
    score: float
    """Similarity with the concept, or the closest if no word fits; NaN for a dead neuron."""
    wins: int | None
    """Number of images on which the neuron won; None in a layer without competition."""
    runner_ups: tuple[tuple[str, float], ...]
    """Runners-up: the next best concepts and their scores."""
    reason: str | None = None
    """Why no word fits; None for a neuron with a label."""
    words: tuple[tuple[str, float], ...] = ()
    """Words and their weights, most weight first: one of weight 1, or several that predict the neuron together. Given
    also where no word fits. Weights multiply contrasts in units of their deviation over the images."""
    r: float = math.nan
    """Correlation of the neuron's activation with what its words predict."""
    r_low: float = math.nan
    """Lower end of the 95 % interval of ``r``."""
    r_high: float = math.nan
    """Upper end of the same interval."""
    rank: int | None = None
    """Place of the neuron among those of its layer, ordered by how well its words predict them; 1 is told apart."""
    null_percentile: float = math.nan
    """Share, in percent, of other neurons' labels and of shuffled activations that come out below ``r``."""

    @property
    def told_apart(self) -> bool:
        """Whether the words predict this neuron better than any other of the layer."""
        return self.rank == 1

    @property
    def closest(self) -> str | None:
        """Word that comes closest, whether it fits or not; None for a dead neuron."""
        return self.words[0][0] if self.words else None

    def text(self, words: int = 1) -> str:
        """Return what a table shows: up to so many words with a label, else that no word fits, and the closest."""
        named = [word for word, _ in self.words[:words]] or [self.concept or ""]
        return shown(named, self.concept is not None, self.reason)

    def to_dict(self) -> dict[str, Any]:
        """Return the label as numbers, texts, lists and dictionaries alone, None for NaN; see docs/labels.md."""
        found = self._asdict()
        found["words"] = [{"concept": concept, "weight": weight} for concept, weight in self.words]
        return without_nan({**found, "told_apart": self.told_apart})
