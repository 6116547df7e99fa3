"""Search for the neurons that are most similar to a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lwta.dissection.labels.naming import Naming
from lwta.dissection.similarity import Similarity, similarities_of
from lwta.dissection.words.concepts import Concepts
from lwta.support.ranking import NONE, largest, pack, unpack
from lwta.support.text import did_you_mean, normal_spelling


class Found(NamedTuple):
    """Neuron found by a search for a text.

    Example:
        >>> found = Found("act", 3, "wolf", 0.75)  # by a search for "dog"
        >>> f"neuron {found.neuron} of {found.layer}, labelled {found.concept}"
        'neuron 3 of act, labelled wolf'
    """

    layer: str
    neuron: int
    concept: str | None
    """Label of the neuron; it differs from the text if the neuron is more similar to another concept."""
    score: float
    """Similarity of the neuron with the text."""


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
    labels = {layer: dissection.label_indices(layer).tolist() for layer in scores}
    results = []
    for value, place in zip(*(part.tolist() for part in unpack(best[best != NONE])), strict=True):
        layer, neuron = owners[place]
        label = labels[layer][neuron]
        results.append(Found(layer, neuron, dissection.concepts.names[label] if label >= 0 else None, value))
    return results


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
