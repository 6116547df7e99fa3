"""AUC of labels: does a neuron's concept predict which images excite it? A check without ground truth."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lwta.dissection.recording.activations import DenseActivations
from lwta.dissection.recording.recording import Recording, Shard
from lwta.support.ranking import NONE, largest, pack, unpack

SHARE = 0.05  # share of the images that count as those that excite a neuron most
MOST = 500  # at most so many images, however large the probing set
NORMAL = 1.959964  # 97.5 % of a normal distribution lie below


class Interval(NamedTuple):
    """Mean over neurons and its 95 % confidence interval."""

    mean: float
    low: float
    """Lower end; NaN, as `high`, with fewer than two neurons."""
    high: float
    """Upper end."""


def concept_aucs(recording: Recording, layer: str, concepts: Tensor) -> Tensor:
    """Area under the ROC curve of each neuron's concept: how well it separates the images that excite the neuron most.

    It is the probability that CLIP finds the concept more similar to one of the images that
    excite the neuron most than to one of the others; equal similarities count a half. By chance it is 0.5.
    The images that excite a neuron most are 5 % of all, at most 500, in the order of its activation, ties going to the
    smaller key; but only images on which it was active count: it won at some position or, without competition,
    was other than 0. Having won anywhere would say little: in convolutional layers nearly every neuron wins somewhere
    on nearly every image. So the question is the same for layers with competition and without.

    Three passes over the recording; what is kept is of the size of neurons by 500.

    Args:
        recording: recording of images by which the neurons were not labelled.
        layer: name of one of its layers.
        concepts: (D, d) directions, one for the concept of each neuron: an image's similarity to the concept is the
            product of its embedding and the direction; see `contrasts`. NaN for neurons without a concept.

    Returns:
        Areas, (D,) float64; NaN for a neuron without a concept, or which is dead.
    """
    images = len(recording.keys)
    best = _most_exciting(recording, layer, min(MOST, math.ceil(SHARE * images)))
    positive = best >= 0
    scores = torch.full(best.shape, float("inf"))
    for shard in recording.shards(layer):
        place = torch.full((images,), -1)
        place[shard.ranks] = torch.arange(len(shard.ranks))
        here = place[best].masked_fill(~positive, -1)
        found = _similarities(shard, concepts).gather(1, here.clamp(min=0))
        scores = torch.where(here >= 0, found, scores)
    scores = scores.sort(1).values.contiguous()  # places without an image hold infinity and come last
    count = positive.sum(1)
    below_or_equal = torch.zeros(len(best), dtype=torch.float64)
    for shard in recording.shards(layer):
        similarities = _similarities(shard, concepts).contiguous()
        for right in (False, True):  # the mean of both counts equal similarities 1/2
            smaller = torch.searchsorted(scores, similarities, right=right)
            below_or_equal += (count[:, None] - smaller).sum(1) / 2
    pairs = count * (images - count)
    aucs = (below_or_equal - count.square() / 2) / pairs  # less the positive-positive pairs, each counted 1/2
    return aucs.masked_fill((pairs == 0) | concepts.isnan().any(1), float("nan"))


def _most_exciting(recording: Recording, layer: str, n: int) -> Tensor:
    """Ranks of the images that excite each neuron most, (D, n) int64; −1 where it was active on fewer than n."""
    best = torch.empty(0)
    for shard in recording.shards(layer):
        values = shard.activations.dense(absent=float("-inf"))
        if isinstance(shard.activations, DenseActivations):
            values = values.masked_fill(values == 0, float("-inf"))
        candidates = pack(values, shard.ranks[:, None]).T
        best = largest(torch.cat([best, candidates], dim=1) if len(best) else candidates, n)
    return unpack(best)[1].masked_fill(best == NONE, -1)


def contrasts(labels: Tensor, texts: Tensor) -> Tensor:
    """Text embedding of each neuron's concept less the mean of all concepts, (D, d); NaN for neurons without a concept.

    Its product with an image's embedding is how much more similar the image is to this concept than to all on average.
    By the cosine alone some images are similar to any text, and any text would seem to predict the neurons they excite:
    on photographs, concepts of other neurons reach an area of 0.56. If there is only one concept, nothing remains of
    it: the area is 0.5.

    Args:
        labels: (D,) int64, index of each neuron's concept; −1 for none.
        texts: (M, d) normalised text embeddings of all concepts.

    Example:
        >>> contrasts(torch.tensor([1, -1]), torch.eye(2))
        tensor([[-0.5000,  0.5000],
                [    nan,     nan]])
    """
    return torch.where(labels[:, None] >= 0, (texts - texts.mean(0))[labels], float("nan"))


def _similarities(shard: Shard, concepts: Tensor) -> Tensor:
    """Similarity of every neuron's concept with every image, (D, n) float32; 0 for neurons without a concept.

    They do not depend on the other images of the shard: rounding from float64 removes the order of summation.
    """
    return (concepts.nan_to_num().double() @ shard.features.double().T).float()


def confidence(values: Tensor) -> Interval:
    """Return the mean over neurons and its 95 % interval by the normal approximation; NaN values are left out.

    Neurons are taken as independent, though they saw the same images.

    Args:
        values: (D,), one for each neuron.

    Example:
        >>> ", ".join(f"{value:.3f}" for value in confidence(torch.tensor([0.5, 0.7, float("nan")])))
        '0.600, 0.404, 0.796'
    """
    values = values[~values.isnan()].double()
    mean = float(values.mean())
    spread = NORMAL * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else float("nan")
    return Interval(mean, mean - spread, mean + spread)
