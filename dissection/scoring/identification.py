"""Identification: are output neurons named as the classes that they are known to stand for?"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lwta.dissection.labels.naming import Naming
from lwta.dissection.words.concepts import Concepts
from lwta.dissection.words.encoder import Encoder
from lwta.support.text import normal_spelling

MPNET = "sentence-transformers/all-mpnet-base-v2"


class Identification(NamedTuple):
    """Identification of output neurons: how many are named as the classes that they are known to stand for.

    Example:
        >>> found = Identification("fc", 10, 9, top1=0.8, top5=0.9, pairs=10, clip_cosine=0.95, mpnet_cosine=0.9)
        >>> f"{found.top1:.0%} of {found.neurons} neurons, of which {found.nameable} could be"
        '80% of 10 neurons, of which 9 could be'
    """

    layer: str
    neurons: int
    """Number of output neurons, D."""
    nameable: int
    """Number of neurons whose true name is among the concepts; the others cannot be identified."""
    top1: float
    """Share of all neurons whose label is their true name, apart from case, underscores, hyphens and blanks."""
    top5: float
    """Share of all neurons with the true name among the label and the four runners-up."""
    pairs: int
    """Number of neurons that ``clip_cosine`` is a mean over: those of which CLIP can embed both label and true name."""
    clip_cosine: float
    """Mean cosine of the text embeddings of a neuron's label and its true name, by the CLIP of the dissection."""
    mpnet_cosine: float
    """Mean cosine by all-mpnet-base-v2 over all neurons with a label; NaN if sentence-transformers or its weights are
    missing."""


def identify(dissection: Naming, layer: str, class_names: Sequence[str]) -> Identification:
    """Compare the labels of output neurons with their true names.

    Cosines are over matched pairs, a label and the name of the same neuron, as CLIP-Dissect (arXiv 2204.10965, section
    4.1) defines them.

    Args:
        dissection: named neurons, those of ``layer`` among them.
        layer: name of the output layer.
        class_names: true names of its neurons, in their order.

    Raises:
        ValueError: the layer was not dissected, or has another number of neurons than there are names.
    """
    labels = dissection.labels(layer, runner_ups=4)
    if isinstance(class_names, str) or len(class_names) != len(labels):
        raise ValueError(
            f"class_names must be the names of the {len(labels)} neurons of layer {layer!r}, got {len(class_names)}"
        )
    known = {normal_spelling(name): name for name in reversed(dissection.concepts.names)}
    ranked = [
        [normal_spelling(name) for name, _ in ((label.concept, 0), *label.runner_ups) if name] for label in labels
    ]
    true = [normal_spelling(name) for name in class_names]
    # a name in the spelling of the concepts, under which embeddings computed before hold it
    pairs = [(label.concept, known.get(t, n)) for label, t, n in zip(labels, true, class_names, strict=True)]
    named = [(label, name) for label, name in pairs if label is not None]
    clip_cosine, embedded = _clip_cosine(dissection.clip, dissection.concepts.templates, named)
    return Identification(
        layer,
        neurons=len(labels),
        nameable=sum(name in known for name in true),
        top1=sum(names[:1] == [name] for names, name in zip(ranked, true, strict=True)) / len(labels),
        top5=sum(name in names for names, name in zip(ranked, true, strict=True)) / len(labels),
        pairs=embedded,
        clip_cosine=clip_cosine,
        mpnet_cosine=_mpnet_cosine(named),
    )


def _clip_cosine(clip: Encoder, templates: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[float, int]:
    """Mean cosine of the CLIP embeddings of paired texts, and the number of pairs that it is over."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    if not texts:
        return math.nan, 0

    def encode(names: list[str]) -> Tensor:
        return Concepts(names, templates=templates).encode(clip)

    try:
        embeddings = dict(zip(texts, encode(texts), strict=True))
    except ValueError:  # some texts have no embedding
        embeddings = {text: row for text in texts if (row := _or_none(encode, text)) is not None}
    cosines = [float(embeddings[a] @ embeddings[b]) for a, b in pairs if a in embeddings and b in embeddings]
    return (sum(cosines) / len(cosines) if cosines else math.nan), len(cosines)


def _or_none(encode: Callable[[list[str]], Tensor], text: str) -> Tensor | None:
    try:
        return encode([text])[0]
    except ValueError:
        return None


def _mpnet_cosine(pairs: Sequence[tuple[str, str]]) -> float:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return math.nan
    if not pairs:
        return math.nan
    try:
        model = SentenceTransformer(MPNET)
    except OSError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        warnings.warn(f"no cosines by all-mpnet-base-v2, whose weights could not be had: {reason}", stacklevel=4)
        return math.nan
    labels, names = (torch.as_tensor(model.encode(list(texts))).double() for texts in zip(*pairs, strict=True))
    return float(torch.nn.functional.cosine_similarity(labels, names).mean())
