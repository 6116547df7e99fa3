"""Stability: which words a neuron would have been given on other images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch

from lwta.dissection.moments.moments import Moments
from lwta.dissection.similarity.base import FromMoments, Words

RESAMPLES = 20
"""Number of times that the folds are drawn anew, with replacement."""
CARRIED = 0.9
"""Share of the choices that the stable set carries."""


def resampled(similarity: FromMoments, moments: Moments, texts: torch.Tensor, seed: int = 0) -> list[Words]:
    """Return the words that a similarity chooses when whole folds of images are drawn anew with replacement.

    Args:
        similarity: one that needs no more than moments.
        moments: moments of the layer by fold.
        texts: (M, d) float32 normalised text embeddings.
        seed: seed of the draws.
    """
    folds, generator = moments.folds, torch.Generator().manual_seed(seed)
    draws = torch.randint(0, len(folds), (RESAMPLES, len(folds)), generator=generator).tolist()
    return [similarity.paths(moments.statistics([folds[k] for k in draw]), texts)[-1] for draw in draws]


def stable_sets(choices: Iterable[Words]) -> list[list[int]]:
    """Return, for each neuron, the smallest set of concepts that carries 90 % of the choices, the most frequent first.

    A choice is the word of most weight. A label that other images would confirm has a set of one word (after arXiv
    2512.18092).

    Args:
        choices: choices of words on different draws of the images.

    Example:
        >>> once = Words(torch.tensor([[4], [-1]]), torch.ones(2, 1))
        >>> stable_sets([once, once, once._replace(concepts=torch.tensor([[2], [-1]]))])
        [[4, 2], []]
    """
    first = [words.concepts[:, 0].tolist() for words in choices]
    sets = []
    for of_neuron in zip(*first, strict=True):
        counts = Counter(concept for concept in of_neuron if concept >= 0)
        needed, kept = CARRIED * counts.total(), list[int]()
        for concept, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
            if needed <= 1e-9:
                break
            kept.append(concept)
            needed -= count
        sets.append(kept)
    return sets
