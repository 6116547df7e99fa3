"""How well a concept puts the images that excite a neuron in the order of the neuron's activations."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Self

from lwta.dissection.similarity.base import Shard
from lwta.dissection.similarity.images import AllImages, Probed

POWER = 3
LEAST_SIMILARITY = 1e-6


class RankReorder:
    """score[i, m] = −(error of the order by concept m) / (error of a random order) / √(mean similarity to m).

    Over the ``fraction`` of all images that excite the neuron most, with activations a₁ ≥ a₂ ≥ …: the error of an order
    is the mean of |a of the image that it puts in place r − a_r|³. This is ``rank_reorder`` of CLIP-Dissect (Oikarinen
    & Weng, ICLR 2023), which DISCOVER uses, but for the random order: theirs is the mean over 5 random permutations,
    ours the expectation, the mean of |a_r − a_s|³ over all pairs, so the score is deterministic.

    Only images on which a neuron won can excite it, so a neuron of few wins has fewer than the others. Where all its
    activations are equal no order errs, and the ratio counts as 1, that of a random order. A mean similarity below 1e-6
    counts as that. The fraction is of a number of images that is not known before the last one, so embeddings, N·d
    numbers, and three numbers for each win are kept.

    Args:
        fraction: of the images, in (0, 1].

    Raises:
        ValueError: ``fraction`` is out of range.

    Example:
        >>> from lwta.dissection.activations import DenseActivations
        >>> features = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
        >>> similarity = RankReorder(fraction=1.0)
        >>> similarity.update(Shard(torch.arange(3), features, DenseActivations(torch.tensor([[3.0], [2.0], [1.0]]))))
        >>> similarity.finalize(torch.eye(2)).argmax().item()
        0
    """

    name = "rank_reorder"

    def __init__(self, *, fraction: float = 0.05) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must be in (0, 1], got {fraction}")
        self.fraction = fraction
        self._images = AllImages()

    def update(self, shard: Shard) -> None:
        """Take in a shard."""
        self._images.add(shard)

    def merge(self, other: Self) -> None:
        """Take in all that ``other`` took in."""
        self._images.merge(other._images)

    def finalize(self, text_features: Tensor) -> Tensor:
        """(D, M) float32; NaN for a neuron that never answered."""
        probed = self._images.gathered()
        scores = torch.full((len(probed.answered), len(text_features)), float("nan"))
        top = max(int(len(probed.features) * self.fraction), 1)
        for neuron, (images, activations) in enumerate(_most_exciting(probed, top)):
            if probed.answered[neuron]:
                scores[neuron] = _score(activations, probed.features[images] @ text_features.T)
        return scores


def _most_exciting(probed: Probed, top: int) -> list[tuple[Tensor, Tensor]]:
    """Of each neuron, at most ``top`` images on which it won and its activations there, falling; ties by key."""
    wins = probed.winnings
    falling = wins.values.argsort(descending=True, stable=True)
    order = falling[wins.neurons[falling].argsort(stable=True)]
    lists = torch.bincount(wins.neurons, minlength=len(probed.answered)).tolist()
    return [(wins.images[part[:top]], wins.values[part[:top]]) for part in order.split(lists)]


def _score(activations: Tensor, similarities: Tensor) -> Tensor:
    """(M,) from k falling activations and (k, M) similarities."""
    by_concept = similarities.T.contiguous()  # sorting is faster along memory
    order = by_concept.argsort(dim=1, descending=True, stable=True)
    error = (activations[order] - activations).abs_().pow_(POWER).mean(1)
    random = _error_of_random_order(activations)
    ratio = error / random if random > 0 else torch.ones_like(error)
    return -ratio / by_concept.mean(1).clamp_min(LEAST_SIMILARITY).sqrt()


def _error_of_random_order(activations: Tensor) -> float:
    """Mean of |a_r − a_s|³ over all ordered pairs of k numbers, r = s included."""
    a = activations.double()
    return float(torch.cdist(a[:, None], a[:, None], p=1).pow(POWER).mean())
