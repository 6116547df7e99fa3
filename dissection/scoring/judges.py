"""Judges of labels: figures that fall when a neuron's concept is too narrow for it, and when it is too broad.

All compare a neuron's activations on n images with the signal of its concept on them. Each passes both sanity tests of
Oikarinen, Yan & Weng, "Evaluating Neuron Explanations" (ICML 2025, arXiv 2506.05774): take away half of the images that
show the concept, or add as many that do not, and the figure falls. Recall, precision, accuracy and the area under the
ROC curve fail one of the tests or both, so they are not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from lwta.checks import check_dense

SHARE = 0.05
"""Share of the images that count as a neuron's top images."""

_CELLS = 2**20  # entries of the tables of images by neurons, or by concepts, that are worked on at once


class JudgeFigures(NamedTuple):
    """Figures of the labels of D neurons, each (D,) float64; NaN for a neuron without a label, or which is constant.

    Example:
        >>> activations = torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
        >>> judged = judge_probabilities(activations, torch.eye(3)[:, :2])
        >>> judged.f1.tolist(), judged.probability_r.tolist()
        ([1.0, nan], [1.0, nan])
    """

    auprc: Tensor
    """Average precision by which the concept's probability finds the neuron's top images; see `auprc`."""
    f1: Tensor
    """F1 of the neuron's top images and the concept's probability; see `f1`."""
    iou: Tensor
    """Intersection over union of the neuron's top images and the concept's probability; see `iou`."""
    probability_r: Tensor
    """Pearson correlation of the neuron's activation and the concept's probability."""


def judge_probabilities(activations: Tensor, probabilities: Tensor, share: float = SHARE) -> JudgeFigures:
    """Return every figure of the labels of a layer's neurons, by the probability of each label on each image.

    Args:
        activations: (n, D) activations of the neurons on n images, best ones by which the labels were not chosen.
        probabilities: (n, D), in column i the probability of neuron i's label, see `concept_probabilities`; NaN for a
            neuron without one.
        share: share of the images that count as a neuron's top images.

    Raises:
        TypeError: an argument is not a tensor of floating-point numbers.
        ValueError: the shapes do not fit, or ``share`` is outside (0, 1].
    """
    return JudgeFigures(
        auprc=auprc(activations, probabilities, share),
        f1=f1(activations, probabilities, share),
        iou=iou(activations, probabilities, share),
        probability_r=pearson(activations, probabilities),
    )


def pearson(activations: Tensor, signals: Tensor) -> Tensor:
    """Return the Pearson correlation of each neuron's activation with its signal.

    Args:
        activations: (n, D).
        signals: (n, D), in column i the signal of neuron i's label; NaN for a neuron without one.

    Returns:
        (D,) float64; NaN where the activation or the signal is the same on all images, or NaN or infinite on one.

    Raises:
        TypeError: an argument is not a tensor of floating-point numbers.
        ValueError: the shapes differ.
    """
    _check_tables(activations, "signals", signals)
    return _by_neurons(lambda a, s: (_unit(a) * _unit(s)).sum(0).clamp(-1, 1), activations, signals)


def _unit(values: Tensor) -> Tensor:
    """Columns less their means, of length 1; NaN where a column is constant."""
    centred = values - values.mean(0)
    # The mean of equal numbers may differ from them by rounding.
    return (centred / centred.norm(dim=0)).masked_fill(values.amin(0) == values.amax(0), float("nan"))


def top_images(activations: Tensor, share: float = SHARE) -> Tensor:
    """Return by how much each image is one of the top images of each neuron: 1, 0, or a fraction for ties.

    The top images are the ⌈share·n⌉ with the largest activations. If only m of t images with equal activations
    find room among them, each of the t is one by m / t, which is the probability if chance decides. So the order of the
    images is of no account.
    Images on which the neuron is inactive never count, even where this leaves fewer: those on which it is 0, or
    has its least activation. So a constant neuron has no top images, and one that is active on 1 % of the images has
    these alone.

    Args:
        activations: (n, D).
        share: share of the images.

    Returns:
        (n, D) float64; NaN for a neuron with an activation that is NaN.

    Raises:
        TypeError: ``activations`` is not a tensor of floating-point numbers.
        ValueError: ``activations`` has not two axes, or ``share`` is outside (0, 1].

    Example:
        >>> top_images(torch.tensor([[5.0, 2.0], [4.0, 2.0], [4.0, 2.0], [0.0, 2.0]]), share=0.5).T
        tensor([[1.0000, 0.5000, 0.5000, 0.0000],
                [0.0000, 0.0000, 0.0000, 0.0000]], dtype=torch.float64)
    """
    _check_table("activations", activations)
    places = _places(activations, share)
    weights = torch.empty(activations.shape, dtype=torch.float64, device=activations.device)
    if len(activations):
        width = _width(len(activations))
        for part, found in zip(activations.split(width, 1), weights.split(width, 1), strict=True):
            found.copy_(_top(part, places).weights().masked_fill(part.isnan().any(0), float("nan")))
    return weights


class _Top(NamedTuple):
    """Top images of some neurons: those that are surely among them, and those of which chance would choose some."""

    sure: Tensor
    """Whether the image is one of them without question, (n, D) bool."""
    tied: Tensor
    """Whether its activation is that of the last place, (n, D) bool; False where the neuron is inactive there."""
    chance: Tensor
    """Probability of a tied image to be one of them, (D,) float64."""
    both: Tensor
    """Probability of two different tied images to be both among them, (D,) float64."""

    def weights(self) -> Tensor:
        """Return the probability of every image to be one of them, (n, D) float64."""
        return self.sure + self.tied * self.chance

    def total(self) -> Tensor:
        """Return the number of top images, (D,) float64: chance does not change it."""
        return self.sure.sum(0) + self.tied.sum(0) * self.chance


def _top(activations: Tensor, places: int) -> _Top:
    """Find the top images of some neurons by their activations (n, D)."""
    border = activations.kthvalue(len(activations) - places + 1, dim=0).values
    above, equal = activations > border, activations == border
    active = (activations != 0) & (activations > activations.amin(0))
    rooms, ties = (places - above.sum(0)).double(), equal.sum(0).double()
    chance = rooms / ties.clamp(min=1)  # without ties only for NaN
    return _Top(above & active, equal & active, chance, chance * (rooms - 1) / (ties - 1).clamp(min=1))


def auprc(activations: Tensor, signals: Tensor, share: float = SHARE) -> Tensor:
    """Return the average precision of each signal as a ranking by which the neuron's top images are found.

    It approximates the area under the curve of precision and recall by a sum over the values of the signal as
    thresholds, falling: Σ_k (R_k − R_{k−1})·P_k, as scikit-learn does; equal signals form one threshold. By chance it
    is about the share of the top images. Where ties make top images a matter of chance, this is its exact expectation.

    Args:
        activations: (n, D).
        signals: (n, D), in column i the signal of neuron i's label; NaN for a neuron without one.
        share: share of the images that are top images; see `top_images`.

    Returns:
        (D,) float64; NaN for a neuron without top images, or where a value is NaN.

    Raises:
        TypeError: an argument is not a tensor of floating-point numbers.
        ValueError: the shapes differ, or ``share`` is outside (0, 1].
    """
    _check_tables(activations, "signals", signals)
    places = _places(activations, share)
    return _by_neurons(lambda a, s: _average_precision(_top(a, places), s), activations, signals)


def _average_precision(top: _Top, signals: Tensor) -> Tensor:
    """Expectation of the average precision of signals (n, D) for the top images, (D,)."""
    signals, order = signals.sort(0, descending=True)
    ends = torch.ones_like(top.sure)  # the last image of each threshold
    ends[:-1] = signals[:-1] != signals[1:]
    sure, new_sure = _counts(top.sure.gather(0, order), ends)
    tied, new_tied = _counts(top.tied.gather(0, order), ends)
    # Of x sure and y tied images down to a threshold, of which x' and y' are new at it, chance makes X = x + Y top
    # images, X' of them new. What is needed is the mean of X'·X. A tied image meets itself y' times, another one
    # y'·(y − 1) times.
    products = new_sure * sure + top.chance * (new_sure * tied + new_tied * sure)
    products += top.chance * new_tied + top.both * new_tied * (tied - 1)
    ranks = torch.arange(1, len(signals) + 1, dtype=torch.float64, device=signals.device)
    return (products * ends / ranks[:, None]).sum(0) / top.total()


def _counts(members: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Members down to each image, (n, D), and, at the ends of thresholds, those since the end before."""
    counts = members.double().cumsum(0)
    before = torch.zeros_like(counts)
    before[1:] = (counts * ends).cummax(0).values[:-1]
    return counts, counts - before


def f1(activations: Tensor, probabilities: Tensor, share: float = SHARE) -> Tensor:
    """Return the F1 of each neuron's top images and its concept: 2·Σ b·p / (Σ b + Σ p).

    b tells by how much an image is a top image, and p, the concept's probability, how much it shows the concept. Where
    ties make top images a matter of chance, this is its exact expectation.

    Args:
        activations: (n, D).
        probabilities: (n, D) within 0…1, in column i that of neuron i's label; NaN for a neuron without one.
        share: share of the images that are top images; see `top_images`.

    Returns:
        (D,) float64; NaN for a neuron without top images, or where a value is NaN.

    Raises:
        TypeError: an argument is not a tensor of floating-point numbers.
        ValueError: the shapes differ, a probability is outside 0…1, or ``share`` is outside (0, 1].
    """
    return _overlap(activations, probabilities, share, lambda shared, sizes: 2 * shared / sizes)


def iou(activations: Tensor, probabilities: Tensor, share: float = SHARE) -> Tensor:
    """Return the intersection over union of each neuron's top images and its concept: Σ b·p / (Σ b + Σ p − Σ b·p).

    b and p are those of `f1`. It is F1 / (2 − F1), so it orders labels alike; with ties among the top images it is the
    figure of the mean intersection, not the mean of the figure.

    Args:
        activations: (n, D).
        probabilities: (n, D) within 0…1, in column i that of neuron i's label; NaN for a neuron without one.
        share: share of the images that are top images; see `top_images`.

    Returns:
        (D,) float64; NaN for a neuron without top images, or where a value is NaN.

    Raises:
        TypeError: an argument is not a tensor of floating-point numbers.
        ValueError: the shapes differ, a probability is outside 0…1, or ``share`` is outside (0, 1].
    """
    return _overlap(activations, probabilities, share, lambda shared, sizes: shared / (sizes - shared))


def _overlap(
    activations: Tensor, probabilities: Tensor, share: float, figure: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Figure (D,) of Σ b·p and Σ b + Σ p; NaN for neurons without top images."""
    _check_tables(activations, "probabilities", probabilities)
    outside = probabilities[(probabilities < 0) | (probabilities > 1)]
    if len(outside):
        raise ValueError(f"probabilities must be within 0…1, got {float(outside[0])}")
    places = _places(activations, share)

    def of_columns(a: Tensor, p: Tensor) -> Tensor:
        top = _top(a, places)
        total = top.total()
        return figure((top.weights() * p).sum(0), total + p.sum(0)).masked_fill(total == 0, float("nan"))

    return _by_neurons(of_columns, activations, probabilities)


def concept_probabilities(features: Tensor, texts: Tensor, labels: Tensor) -> Tensor:
    """Return the probability of each neuron's concept on every image: a softmax over all concepts, at that concept.

    What the softmax is of are the products of the embeddings times 100, as in CLIP. Images are taken some at a time:
    there is never a table of all images by all concepts.

    Args:
        features: (n, d) normalised embeddings of images.
        texts: (M, d) normalised text embeddings of all concepts.
        labels: (D,) int64, index of each neuron's concept; −1 for none.

    Returns:
        (n, D) float32; a column of NaN for a neuron without a concept.

    Raises:
        TypeError: ``features`` or ``texts`` is not a tensor of floating-point numbers, or ``labels`` not of int64.
        ValueError: the shapes do not fit, or a label is no concept.

    Example:
        >>> concept_probabilities(torch.eye(2), 0.01 * torch.eye(2), torch.tensor([0, 1, -1]))
        tensor([[0.7311, 0.2689,    nan],
                [0.2689, 0.7311,    nan]])
    """
    _check_table("features", features)
    _check_table("texts", texts)
    if features.shape[1] != texts.shape[1]:
        raise ValueError(
            f"texts must have as many dimensions as features, {features.shape[1]}, got shape {tuple(texts.shape)}"
        )
    _check_labels(labels, len(texts))
    probabilities = torch.full((len(features), len(labels)), float("nan"), device=features.device)
    labelled = labels >= 0
    concepts, scaled = labels[labelled], 100 * texts.float().T
    for some, found in zip(features.split(_width(len(texts))), probabilities.split(_width(len(texts))), strict=True):
        found[:, labelled] = (some.float() @ scaled).softmax(1)[:, concepts]
    return probabilities


def _width(length: int) -> int:
    """Columns, or rows, of this length that are worked on at once."""
    return max(1, _CELLS // max(1, length))


def _by_neurons(figure: Callable[[Tensor, Tensor], Tensor], activations: Tensor, signals: Tensor) -> Tensor:
    """Figures (D,) of pairs of columns in float64, some neurons at a time; NaN where a column has a NaN."""
    if not len(activations):
        return torch.full(activations.shape[1:], float("nan"), dtype=torch.float64, device=activations.device)
    width = _width(len(activations))
    figures = []
    for a, s in zip(activations.split(width, 1), signals.split(width, 1), strict=True):
        missing = a.isnan().any(0) | s.isnan().any(0)
        figures.append(figure(a.double(), s.double()).masked_fill(missing, float("nan")))
    return torch.cat(figures)


def _places(activations: Tensor, share: float) -> int:
    """Return how many of the images are a neuron's top images: the share, rounded up."""
    if not 0 < share <= 1:
        raise ValueError(f"share must be within (0, 1], got {share}")
    return math.ceil(Fraction(str(share)) * len(activations))  # 0.07 × 100 is above 7 in floating point


def _check_tables(activations: Tensor, name: str, signals: Tensor) -> None:
    """Raise unless both are tables of floating-point numbers of the same images and neurons."""
    _check_table("activations", activations)
    check_dense(name, signals)
    if signals.shape != activations.shape:
        raise ValueError(
            f"{name} must have the shape of activations, {tuple(activations.shape)}, got shape {tuple(signals.shape)}"
        )


def _check_table(name: str, table: Tensor) -> None:
    """Raise TypeError unless the table is a tensor of floating-point numbers, and ValueError unless it has two axes."""
    check_dense(name, table)
    if table.ndim != 2:
        raise ValueError(f"{name} must have two axes, got shape {tuple(table.shape)}")


def _check_labels(labels: Tensor, concepts: int) -> None:
    """Raise TypeError unless labels are an int64 tensor, and ValueError unless they are (D,) and within the list."""
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        seen = f"a tensor of {labels.dtype}" if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels must be a tensor of int64, got {seen}")
    if labels.ndim != 1:
        raise ValueError(f"labels must have one axis, got shape {tuple(labels.shape)}")
    outside = labels[(labels < -1) | (labels >= concepts)]
    if len(outside):
        raise ValueError(f"labels must be −1…{concepts - 1} for {concepts} concepts, got {int(outside[0])}")
