"""Does a neuron's concept say which images excite it? A check of labels that needs no ground truth."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lwta.dissection.recording.activations import DenseActivations
from lwta.dissection.recording.recording import Recording, Shard
from lwta.support.ranking import NONE, largest, pack, unpack

SHARE = 0.05  # of the images: those that excite a neuron most
MOST = 500  # images, however large the probe
NORMAL = 1.959964  # 97.5 % of a normal distribution lie below


class Interval(NamedTuple):
    """A mean over neurons and its 95 % confidence interval."""

    mean: float
    low: float
    """NaN, as `high`, with fewer than two neurons."""
    high: float


def concept_aucs(recording: Recording, layer: str, concepts: Tensor) -> Tensor:
    """Of each neuron, how well its concept tells the images that excite it most from the others.

    The area under the ROC curve: the probability that CLIP finds the concept more similar to one of the images that
    excite the neuron most than to one of the others; equal similarities count a half. By chance it is 0.5.
    The images that excite a neuron most are 5 % of all, at most 500, in the order of its activation, ties going to the
    smaller key; but only images on which it was active count: it won at some position or, without competition,
    was other than 0. Having won anywhere would say little: in convolutional layers nearly every neuron wins somewhere
    on nearly every image. So the question is the same for layers with competition and without.

    Three passes over the recording; what is kept is of the size of neurons by 500.

    Args:
        recording: of images by which the neurons were not labelled.
        layer: one of its layers.
        concepts: (D, d), what an image's embedding is multiplied with to say how much it resembles the concept of each
            neuron: see `contrasts`; NaN for neurons without one.

    Returns:
        (D,) float64; NaN for a neuron without a concept, or which is dead.
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
    scores = scores.sort(1).values.contiguous()  # what stands for no image comes last, above all others
    count = positive.sum(1)
    below_or_equal = torch.zeros(len(best), dtype=torch.float64)
    for shard in recording.shards(layer):
        similarities = _similarities(shard, concepts).contiguous()
        for right in (False, True):  # the mean of both counts those that are equal by a half
            smaller = torch.searchsorted(scores, similarities, right=right)
            below_or_equal += (count[:, None] - smaller).sum(1) / 2
    pairs = count * (images - count)
    aucs = (below_or_equal - count.square() / 2) / pairs  # images among the positive ones were counted half in half
    return aucs.masked_fill((pairs == 0) | concepts.isnan().any(1), float("nan"))


def _most_exciting(recording: Recording, layer: str, n: int) -> Tensor:
    """(D, n) int64: ranks of the images that excite each neuron most, −1 where it was active on fewer."""
    best = torch.empty(0)
    for shard in recording.shards(layer):
        values = shard.activations.dense(absent=float("-inf"))
        if isinstance(shard.activations, DenseActivations):
            values = values.masked_fill(values == 0, float("-inf"))
        candidates = pack(values, shard.ranks[:, None]).T
        best = largest(torch.cat([best, candidates], dim=1) if len(best) else candidates, n)
    return unpack(best)[1].masked_fill(best == NONE, -1)


def contrasts(labels: Tensor, texts: Tensor) -> Tensor:
    """(D, d): the text embedding of each neuron's concept, less the mean of all concepts; NaN for neurons without one.

    Multiplied with an image, that is how much more similar the image is to this concept than to all on average. By the
    cosine alone some images are similar to any text, and any text would seem to predict the neurons they excite: on
    photographs, concepts of other neurons reach an area of 0.56. Of a single concept nothing remains: the area is 0.5.

    Args:
        labels: (D,) int64, −1 for no concept.
        texts: (M, d) normalised text embeddings of all concepts.

    Example:
        >>> contrasts(torch.tensor([1, -1]), torch.eye(2))
        tensor([[-0.5000,  0.5000],
                [    nan,     nan]])
    """
    return torch.where(labels[:, None] >= 0, (texts - texts.mean(0))[labels], float("nan"))


def _similarities(shard: Shard, concepts: Tensor) -> Tensor:
    """(D, n) float32 of every neuron's concept with every image, the same whatever the images of the shard; 0 for NaN.

    In float64 first, so that the order of summation is rounded away.
    """
    return (concepts.nan_to_num().double() @ shard.features.double().T).float()


def confidence(values: Tensor) -> Interval:
    """Mean over neurons and its 95 % interval by the normal approximation; NaN values are left out.

    The interval is of the neurons: they are taken as independent, though they saw the same images.

    Args:
        values: (D,).

    Example:
        >>> ", ".join(f"{value:.3f}" for value in confidence(torch.tensor([0.5, 0.7, float("nan")])))
        '0.600, 0.404, 0.796'
    """
    values = values[~values.isnan()].double()
    mean = float(values.mean())
    spread = NORMAL * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else float("nan")
    return Interval(mean, mean - spread, mean + spread)
