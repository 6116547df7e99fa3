"""Cross-validation of labels: chosen without a fold of the images, judged on that fold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lwta.dissection.moments.moments import Moments, Statistics
from lwta.dissection.similarity.base import Words, contrasts

LEAST_IMAGES = 16
"""Number of images below which labels are not judged."""
GAIN = 0.001
"""Least gain of a further word, on images left out, in the log-probability that a neuron is picked out of its layer."""
PICKING = 0.2
"""Temperature of that probability, a softmax over correlations: that of `lwta.dissection.similarity.linear.Linear`."""
SPREAD = 1.6
"""Deviation of the cross-validated correlations of shuffled activations, in units of 1/√images. It would be 1 for given
words; but of two folds each has a part in choosing the other's words, so what they share by chance counts twice."""
GAINED = 1.0
"""Mean of the same, in the same units, where the number of words is chosen by it as well."""
TIED = 1e-5
"""Difference below which two correlations are equal: neurons of the same word differ by the rounding of float32."""
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""97.5 % quantiles of Student's t with 1, 2, 3, … degrees of freedom."""

Explain = Callable[[Sequence[int]], list[Words]]
"""Chooses words by the images of some folds: with one word for each neuron, with two, and so on."""


class Trust(NamedTuple):
    """Figures of the labels of a layer on images by which they were not chosen; NaN, and rank 0, where undefined.

    Example:
        >>> numbers = torch.tensor([0.5])
        >>> trust = Trust(numbers, numbers - 0.1, numbers + 0.1, torch.tensor([1]), numbers, numbers - 0.4, images=100)
        >>> bool(trust.told_apart[0])
        True
    """

    r: Tensor
    """Pearson correlation of a neuron's activation with what its words predict, (D,) float64."""
    low: Tensor
    """Lower end of the 95 % interval of r, by a jackknife over the folds, (D,)."""
    high: Tensor
    """Upper end of the same interval, (D,)."""
    rank: Tensor
    """Place of the neuron among those of its layer, ordered by how well its words predict them, (D,) int64 from 1."""
    null_percentile: Tensor
    """Share of the null below r, in percent, (D,): of the correlations of the neuron with other neurons' words, or of
    those with shuffled activations, whichever is less."""
    of_others: Tensor
    """Mean correlation of the neuron's activation with what the words of other neurons predict, (D,): a control."""
    images: int
    """Number of images that labels were judged on, all folds together."""

    def of(self, neuron: int) -> dict[str, Any]:
        """Return the figures of one neuron by the names that `lwta.dissection.Label` gives them."""
        return {
            "r": float(self.r[neuron]),
            "r_low": float(self.low[neuron]),
            "r_high": float(self.high[neuron]),
            "rank": int(self.rank[neuron]) or None,
            "null_percentile": float(self.null_percentile[neuron]),
        }

    @property
    def told_apart(self) -> Tensor:
        """Mask (D,) of the neurons that their words predict better than any other neuron of the layer."""
        return self.rank == 1


class LeftOut(NamedTuple):
    """Words that were chosen without some folds."""

    folds: list[int]
    words: Words


class CrossValidated(NamedTuple):
    """Labels of a layer, chosen by all images, and the trust in them."""

    words: Words
    trust: Trust
    left_out: list[LeftOut]
    """Choices without each of the folds, of the same length."""


def cross_validated(
    moments: Moments, explain: Explain, texts: Tensor, groups: Sequence[Sequence[int]] | None = None
) -> CrossValidated:
    """Choose the labels of a layer by all images, and judge the way of choosing on images left out.

    Each fold is predicted by words that were chosen without it. Correlations are taken within the folds: covariances
    and variances of all folds are added up, each about the means of its fold. Where `explain` offers explanations of
    different length, each neuron gets the shortest of which the longer ones are no better by `GAIN`.

    Args:
        moments: moments of the layer by fold.
        explain: way of choosing words.
        texts: (M, d) normalised text embeddings.
        groups: folds that are left out together; None leaves out each alone.
    """
    folds = moments.folds
    directions = contrasts(texts.double())
    final = explain(folds)
    images = int(moments.counts.sum())
    if len(folds) < 2 or images < LEAST_IMAGES:
        return CrossValidated(final[-1], _unknown(moments.neurons, images), [])
    groups_left_out = [[fold] for fold in folds] if groups is None else [_present(group, folds) for group in groups]
    sums, choices = [HeldOut(moments.neurons) for _ in final], []
    for group in groups_left_out:
        training = [fold for fold in folds if fold not in group]
        if not group or not training:
            continue
        choices.append((group, explain(training)))
        known, new = moments.statistics(training), [moments.statistics([fold]) for fold in group]
        for total, words in zip(sums, choices[-1][1], strict=True):
            total.add(known, new, words.directions(known, directions))
    if not choices:  # all images are in folds that are left out together
        return CrossValidated(final[-1], _unknown(moments.neurons, images), [])
    lengths = _lengths([total.picked() for total in sums])
    left_out = [LeftOut(group, _chosen(paths, lengths)) for group, paths in choices]
    return CrossValidated(_chosen(final, lengths), _trust(sums, lengths, moments, images), left_out)


class HeldOut:
    """Covariances of what is predicted for each neuron with each neuron's activation, summed up over folds.

    Args:
        neurons: number of neurons in the layer, D.
    """

    def __init__(self, neurons: int) -> None:
        self._covariances = torch.zeros(neurons, neurons)  # [i, j]: words of i, activation of j
        self._by_fold: list[tuple[Tensor, Tensor, Tensor]] = []  # own covariance, variances of prediction and neuron

    def add(self, known: Statistics, folds: Sequence[Statistics], directions: Tensor) -> None:
        """Judge predictions on some folds.

        Args:
            known: statistics of the other folds, by which the predictions were chosen.
            folds: statistics of each of the folds to judge on.
            directions: (D, d); the product of an image's embedding and row i predicts neuron i.
        """
        scale = known.scales(directions)[:, None]
        predicted = torch.where(scale > 0, directions / scale, 0)  # so that no fold counts more than others
        for new in folds:
            activation = new.cross * new.deviations[:, None]  # (D, d) covariances in the neuron's units
            self._covariances += (new.images * predicted).float() @ activation.float().T
            own = new.images * (predicted * activation).sum(1)
            variance = new.images * ((predicted @ new.covariance) * predicted).sum(1)
            self._by_fold.append((own, variance.clamp_min(0), new.images * new.deviations.square()))

    def own(self) -> Tensor:
        """Correlation of each neuron with what its own words predict, (D,) float64; NaN where undefined."""
        return _r(*self._totals())

    def matrix(self) -> Tensor:
        """Correlations [i, j] of what the words of neuron i predict with neuron j, (D, D) float32."""
        _, predicted, activation = self._totals()
        scale = predicted.sqrt()[:, None] * activation.sqrt()
        found = self._covariances / scale.float()
        found.fill_diagonal_(0).diagonal().copy_(self.own())
        return found

    def picked(self) -> Tensor:
        """Log-probability, times its temperature, that words pick their neuron out of the layer, (D,); NaN as `own`."""
        r = self.matrix()
        return self.own() - PICKING * torch.logsumexp(r.nan_to_num(nan=-torch.inf).double() / PICKING, 1)

    def interval(self) -> tuple[Tensor, Tensor]:
        """95 % interval of the own correlations, by the jackknife over folds of Fisher's z, (D,) each."""
        parts = self._parts()
        folds = parts.shape[1]
        z = torch.stack([_fisher(_r(*(parts.sum(1) - parts[:, fold]))) for fold in range(folds)])
        error = ((folds - 1) / folds * (z - z.mean(0)).square().sum(0)).sqrt()
        width = STUDENT[min(folds - 1, len(STUDENT)) - 1] * error
        middle = _fisher(self.own())
        return (middle - width).tanh(), (middle + width).tanh()

    def _parts(self) -> Tensor:
        """Own covariances, variances of predictions and of neurons, by fold, (3, G, D)."""
        return torch.stack([torch.stack(part) for part in zip(*self._by_fold, strict=True)])

    def _totals(self) -> Tensor:
        return self._parts().sum(1)


def _r(covariance: Tensor, predicted: Tensor, activation: Tensor) -> Tensor:
    """Correlation, NaN where one of the variances is 0."""
    scale = (predicted * activation).sqrt()
    return torch.where(scale > 0, covariance / scale, math.nan)


def _fisher(r: Tensor) -> Tensor:
    return r.clamp(-1 + 1e-9, 1 - 1e-9).atanh()


def _lengths(gains: list[Tensor]) -> Tensor:
    """Index of the shortest explanation of each neuron to which no longer one adds `GAIN` for each word, (D,)."""
    best = torch.zeros(len(gains[0]), dtype=torch.int64)
    current = gains[0]
    for k, longer in enumerate(gains[1:], start=1):
        better = longer > current + GAIN * (k - best)
        best, current = torch.where(better, k, best), torch.where(better, longer, current)
    return best


def _chosen(paths: list[Words], lengths: Tensor) -> Words:
    """Words of each neuron from the explanation of its length; the shorter ones are filled up."""
    most = int(lengths.max()) + 1 if len(lengths) else 1
    concepts = torch.full((len(lengths), most), -1)
    weights = torch.zeros(len(lengths), most, dtype=torch.float64)
    for k in range(most):
        rows = lengths == k
        width = paths[k].concepts.shape[1]
        concepts[rows, :width], weights[rows, :width] = paths[k].concepts[rows], paths[k].weights[rows]
    return Words(concepts, weights)


def _trust(sums: list[HeldOut], lengths: Tensor, moments: Moments, images: int) -> Trust:
    neurons = len(lengths)
    matrix, low, high = torch.empty(neurons, neurons), torch.empty(neurons).double(), torch.empty(neurons).double()
    r = torch.empty(neurons, dtype=torch.float64)
    for k in lengths.unique().tolist():
        rows = lengths == k
        matrix[rows], r[rows] = sums[k].matrix()[rows], sums[k].own()[rows]
        low[rows], high[rows] = (end[rows] for end in sums[k].interval())
    judged = ~r.isnan()
    others = matrix.nan_to_num(nan=-2)  # a constant neuron is predicted by nothing
    own = others.diagonal().clone()
    rank = torch.where(judged, 1 + (others > own[:, None] + TIED).sum(1), 0)
    below = (others[judged] < own - TIED).sum(0).double()
    rivals = judged.sum() - judged.long()
    of_words = torch.where(rivals > 0, below / rivals.clamp_min(1), 1)
    degrees = max(images - len(moments.folds), 1)
    by_chance = GAINED if len(sums) > 1 else 0.0
    of_shuffles = torch.special.ndtr((_fisher(r) * math.sqrt(degrees) - by_chance) / SPREAD)
    percentile = 100 * torch.minimum(of_words, of_shuffles).masked_fill(~judged, math.nan)
    summed = matrix.nan_to_num(nan=0).masked_fill_(~judged[:, None], 0).sum(0).double() - own
    of_others = (summed / rivals.clamp_min(1)).masked_fill(~judged | (rivals < 1), math.nan)
    return Trust(r, low, high, rank, percentile, of_others, images)


def _unknown(neurons: int, images: int) -> Trust:
    nothing = torch.full((neurons,), math.nan, dtype=torch.float64)
    return Trust(nothing, nothing, nothing, torch.zeros(neurons, dtype=torch.int64), nothing, nothing, images)


def _present(group: Sequence[int], folds: Sequence[int]) -> list[int]:
    return [fold for fold in group if fold in folds]
