"""Neurons for a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lwta.dissection.concepts import Concepts
from lwta.dissection.result import Dissection
from lwta.dissection.scoring.identification import plain
from lwta.dissection.scoring.layers import label_indices
from lwta.dissection.similarity import Similarity, find_similarity
from lwta.dissection.similarity.top import NONE, largest, pack, unpack
from lwta.dissection.words import did_you_mean


class Found(NamedTuple):
    """A neuron that answers to a text."""

    layer: str
    neuron: int
    concept: str | None
    """Its label, which may be another: the text is then not what it answers to most."""
    score: float
    """Similarity of the neuron with the text."""


def search(
    dissection: Dissection,
    text: str,
    n: int = 10,
    layers: Sequence[str] | None = None,
    similarity: str | Callable[[], Similarity] | None = None,
) -> list[Found]:
    """See `lwta.dissection.Dissection.search`."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if isinstance(layers, str):
        raise TypeError(f"layers must be a sequence of names, got one: {layers!r}")
    layers = dissection.layers if layers is None else layers
    scores = {layer: dissection.similarities(layer) for layer in layers}
    if not scores:
        raise ValueError("layers must hold at least one layer, got none")
    names = [plain(name) for name in dissection.concepts.names]
    if plain(text) in names:
        column = names.index(plain(text))
        to_text = {layer: found[:, column] for layer, found in scores.items()}
    else:
        to_text = _similarities(dissection, text, list(scores), similarity or dissection.similarity)
    values = torch.cat([to_text[layer] for layer in scores])
    owners = [(layer, neuron) for layer, found in scores.items() for neuron in range(len(found))]
    packed = pack(values.nan_to_num(nan=float("-inf")), torch.arange(len(values)))  # neurons that never answered
    best = largest(packed, n)
    labels = {layer: label_indices(found).tolist() for layer, found in scores.items()}
    results = []
    for value, place in zip(*(part.tolist() for part in unpack(best[best != NONE])), strict=True):
        layer, neuron = owners[place]
        label = labels[layer][neuron]
        results.append(Found(layer, neuron, dissection.concepts.names[label] if label >= 0 else None, value))
    return results


def _similarities(
    dissection: Dissection, text: str, layers: Sequence[str], similarity: str | Callable[[], Similarity]
) -> dict[str, Tensor]:
    """By layer, (D,): similarity with the text, which is one concept more."""
    make_similarity, concepts = find_similarity(similarity), dissection.concepts
    try:
        if not text.strip():
            raise ValueError("it is empty")
        embedding = Concepts([text], templates=concepts.templates).encode(dissection.clip)
    except ValueError as error:
        hint = did_you_mean(text, concepts.names)
        raise ValueError(f"text must be a concept or one that CLIP can encode, got {text!r}: {error}{hint}") from None
    features = torch.cat([concepts.encode(dissection.clip), embedding])
    scores = dissection.recording.scores(make_similarity, features.to(dissection.device), layers)
    return {layer: found[:, -1] for layer, found in scores.items()}
