"""Search for the neurons that are most similar to a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lwta.dissection.labels.label import WORDS_SHOWN, shown
from lwta.dissection.labels.naming import Naming
from lwta.dissection.similarity import Similarity, similarities_of
from lwta.dissection.words.concepts import Concepts
from lwta.support.exports import without_nan
from lwta.support.ranking import NONE, largest, pack, unpack
from lwta.support.text import did_you_mean, normal_spelling


class Found(NamedTuple):
    """Neuron found by a search for a text.

    Example:
        >>> found = Found("act", 3, "wolf", 0.75)  # by a search for "dog"
        >>> f"neuron {found.neuron} of {found.layer}, labelled {found.concept}"
        'neuron 3 of act, labelled wolf'
        >>> Found("act", 4, None, 0.5, words=("dog",), reason="predicts too little").label_text()
        'no word fits (closest: dog)'
    """

    layer: str
    neuron: int
    concept: str | None
    """Label of the neuron; it differs from the text if the neuron is more similar to another concept. None where no
    word of the list fits."""
    score: float
    """Similarity of the neuron with the text."""
    words: tuple[str, ...] = ()
    """Words of the label or, where no word fits, those that come closest; most weight first."""
    reason: str | None = None
    """Why no word fits; None for a neuron with a label."""
    r: float = math.nan
    """Correlation of the neuron's activation with what its own words predict, as in `Label`; it says nothing of the
    text."""
    rank: int | None = None
    """Place of the neuron among those that its own words predict, as in `Label`; 1 is told apart."""

    @property
    def closest(self) -> str | None:
        """Word of the list that comes closest to the neuron, whether it fits or not."""
        return self.words[0] if self.words else self.concept

    def label_text(self) -> str:
        """Return what a table shows of the neuron's label."""
        return shown(self.words[:WORDS_SHOWN] or [self.concept or ""], self.concept is not None, self.reason)

    def to_dict(self) -> dict[str, Any]:
        """Return the neuron as numbers and texts alone, None for NaN."""
        return without_nan({**self._asdict(), "closest": self.closest})


def search(
    dissection: Naming,
    text: str,
    n: int = 10,
    layers: Sequence[str] | None = None,
    similarity: str | Callable[[], Similarity] | None = None,
) -> list[Found]:
    """Find the neurons that are most similar to a text; arguments are those of `lwta.dissection.Dissection.search`.

    Raises:
        ValueError: ``n`` is below 1, there is no layer, one was not dissected, or the text cannot be encoded.
        TypeError: ``layers`` is one name instead of a sequence of names.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if isinstance(layers, str):
        raise TypeError(f"layers must be a sequence of names, got one: {layers!r}")
    layers = dissection.layers if layers is None else layers
    scores = {layer: dissection.similarities(layer) for layer in layers}
    if not scores:
        raise ValueError("layers must hold at least one layer, got none")
    names = [normal_spelling(name) for name in dissection.concepts.names]
    if normal_spelling(text) in names:
        column = names.index(normal_spelling(text))
        to_text = {layer: found[:, column] for layer, found in scores.items()}
    else:
        to_text = _similarities(dissection, text, list(scores), similarity or dissection.similarity)
    values = torch.cat([to_text[layer] for layer in scores])
    owners = [(layer, neuron) for layer, found in scores.items() for neuron in range(len(found))]
    packed = pack(values.nan_to_num(nan=float("-inf")), torch.arange(len(values)))  # dead neurons
    best = largest(packed, n)
    reasons = {layer: dissection.reasons(layer) for layer in scores}
    results = []
    for value, place in zip(*(part.tolist() for part in unpack(best[best != NONE])), strict=True):
        layer, neuron = owners[place]
        results.append(_found(dissection, layer, neuron, value, reasons[layer][neuron]))
    return results


def _found(dissection: Naming, layer: str, neuron: int, score: float, reason: str | None) -> Found:
    """Neuron as it was found, with its label and the trust in that."""
    chosen = dissection.chosen(layer)
    words = tuple(dissection.concepts.names[concept] for concept, _ in chosen.words_of(neuron))
    trust = chosen.trust.of(neuron)
    r = math.nan if math.isnan(trust["r"]) else trust["r"]  # one object, so that equal findings are equal
    return Found(layer, neuron, words[0] if words and reason is None else None, score, words, reason, r, trust["rank"])


def _similarities(
    dissection: Naming, text: str, layers: Sequence[str], similarity: str | Callable[[], Similarity]
) -> dict[str, Tensor]:
    """Similarity of every neuron with the text by layer, each (D,); the text is scored as one further concept."""
    concepts = dissection.concepts
    try:
        if not text.strip():
            raise ValueError("it is empty")
        embedding = Concepts([text], templates=concepts.templates).encode(dissection.clip)
    except ValueError as error:
        hint = did_you_mean(text, concepts.names)
        raise ValueError(f"text must be a concept or one that CLIP can encode, got {text!r}: {error}{hint}") from None
    features = torch.cat([concepts.encode(dissection.clip), embedding])
    scores = similarities_of(dissection.recording, similarity, features.to(dissection.device), layers=layers)
    return {layer: found[:, -1] for layer, found in scores.items()}
