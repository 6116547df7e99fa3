"""What the figures of trust are by definition: with all images, all words and all products as dense float64 tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lwta.dissection.moments.moments import Moments, Statistics
from lwta.dissection.moments.sums import LayerSums, ProbeSums, parts_of
from lwta.dissection.recording.activations import Activations, DenseActivations
from lwta.dissection.recording.recording import Shard
from lwta.dissection.similarity import Words

GAIN, PICKING = 0.001, 0.2  # what a further word must add, and the temperature of the log-probability it adds to
TIED = 1e-5  # difference below which correlations are equal
CHANCE = {"one": torch.distributions.Normal(0, 1.6), "several": torch.distributions.Normal(1, 1.6)}
"""What correlations are with shuffled activations where there is one explanation, or several to choose from: Fisher's z
times √images."""


def moments_by_fold(
    activations: Activations | Tensor, features: Tensor, folds: Tensor, count: int = 8, size: int = 64
) -> Moments:
    """Moments as the library sums them up, in shards of some size."""
    if isinstance(activations, Tensor):
        activations = DenseActivations(activations)
    probe, own = ProbeSums(count), LayerSums(count)
    for part in torch.arange(len(features)).split(size):
        mask = torch.zeros(len(features), dtype=torch.bool)
        mask[part] = True
        add(probe, own, Shard(part, features[part], activations.select(mask)), folds)
    return Moments(**probe.totals(), **own.totals())


def add(probe: ProbeSums, own: LayerSums, shard: Shard, folds: Tensor | None) -> None:
    for part in parts_of(shard, folds):
        probe.add(part.fold, part.shard.features)
        own.add(part.fold, part.shard.activations, part.shard.features)


def dense_statistics(activations: Tensor, features: Tensor) -> Statistics:
    """Means and covariances over the rows of two tables."""
    A, F = activations.double(), features.double()
    deviations = A.std(0, correction=0)
    deviations = torch.where(A.amax(0) > A.amin(0), deviations, 0)
    standard = torch.where(deviations > 0, (A - A.mean(0)) / deviations, 0)
    centred = F - F.mean(0)
    return Statistics(
        float(len(F)),
        F.mean(0),
        centred.T @ centred / len(F),
        A.mean(0),
        deviations,
        standard.T @ centred / len(F),
        F.T @ F,
        A.square().sum(0),
        A.T @ F,
    )


def contrast_signals(features: Tensor, texts: Tensor) -> Tensor:
    """How much more each image resembles each word than words on average, (n, M)."""
    P = features.double() @ texts.double().T
    return P - P.mean(1, keepdim=True)


def correlation_table(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlations of columns of (n, D) and (n, M); NaN for constant ones of ``a``, 0 for those of ``b``."""
    a, b = a.double(), b.double()
    unit_a, unit_b = ((x - x.mean(0)) / (x - x.mean(0)).norm(dim=0) for x in (a, b))
    found = unit_a.T @ torch.where((b.amax(0) - b.amin(0)) > 1e-9, unit_b, 0)
    return found.masked_fill((a.amax(0) == a.amin(0))[:, None], float("nan"))


def predictions(words: Words, signals: Tensor, training: Tensor) -> Tensor:
    """What words predict of every image, (n, D), in units of its deviation over the images that chose the words."""
    S = signals / signals[training].std(0, correction=0)
    found = torch.zeros(len(signals), len(words.concepts), dtype=torch.float64)
    for neuron, (concepts, weights) in enumerate(zip(*words, strict=True)):
        for concept, weight in zip(concepts.tolist(), weights.tolist(), strict=True):
            if concept >= 0:
                found[:, neuron] += weight * S[:, concept]
    scale = found[training].std(0, correction=0)
    return torch.where(scale > 1e-9, found / scale, 0)


def within_folds(values: Tensor, folds: Tensor) -> Tensor:
    """Values less the mean of their fold."""
    values = values.double().clone()
    for fold in folds.unique():
        values[folds == fold] -= values[folds == fold].mean(0)
    return values


class Definition(NamedTuple):
    """Figures of trust, from their definition."""

    r: Tensor
    matrix: Tensor
    rank: Tensor
    null_percentile: Tensor
    of_others: Tensor
    lengths: Tensor


def held_out_matrix(predicted: Tensor, activations: Tensor, folds: Tensor) -> Tensor:
    """Correlations within folds of what is predicted of neuron i with the activation of neuron j."""
    p, a = within_folds(predicted, folds), within_folds(activations, folds)
    return (p.T @ a) / (p.norm(dim=0)[:, None] * a.norm(dim=0))


def cross_validation(
    activations: Tensor,
    features: Tensor,
    texts: Tensor,
    folds: Tensor,
    explain: Callable[[Tensor], list[Words]],
    groups: Sequence[Sequence[int]] | None = None,
) -> Definition:
    """Choose words without each group of folds, predict it, and compare with what was there.

    Args:
        activations: (n, D).
        features: (n, d).
        texts: (M, d).
        folds: (n,), fold of each image.
        explain: chooses words by the images of a mask (n,), with one word, with two, ….
        groups: folds that are left out together; None for each alone.
    """
    groups = [[fold] for fold in folds.unique().tolist()] if groups is None else groups
    signals = contrast_signals(features, texts)
    predicted: list[Tensor] = []
    for group in groups:
        left_out = torch.isin(folds, torch.tensor(group))
        for k, words in enumerate(explain(~left_out)):
            if k == len(predicted):
                predicted.append(torch.zeros_like(activations, dtype=torch.float64))
            predicted[k][left_out] = predictions(words, signals, ~left_out)[left_out]
    matrices = [held_out_matrix(p, activations, folds) for p in predicted]
    picked = torch.stack(
        [m.diagonal() - PICKING * (m.nan_to_num(nan=-torch.inf) / PICKING).exp().sum(1).log() for m in matrices]
    )
    lengths = [_shortest(column.tolist()) for column in picked.T]
    matrix = torch.stack([matrices[k][neuron] for neuron, k in enumerate(lengths)])
    r = matrix.diagonal()
    neurons, judged = len(r), ~r.isnan()
    rank, percentile, of_others = torch.zeros(neurons), torch.full((neurons,), torch.nan), torch.full_like(r, torch.nan)
    degrees = len(features) - len(folds.unique())
    for i in judged.nonzero().flatten().tolist():
        rank[i] = 1 + sum(matrix[i, j] > r[i] + TIED for j in range(neurons) if j != i and judged[j])
        rivals = [matrix[j, i] for j in range(neurons) if j != i and judged[j]]
        share = sum(float(other < r[i] - TIED) for other in rivals) / len(rivals) if rivals else 1.0
        chance = CHANCE["one" if len(predicted) == 1 else "several"].cdf(r[i].atanh() * degrees**0.5)
        percentile[i] = 100 * min(share, float(chance))
        if rivals:
            of_others[i] = sum(rivals) / len(rivals)
    return Definition(r, matrix, rank.long(), percentile.double(), of_others, torch.tensor(lengths))


def _shortest(gains: list[float]) -> int:
    """Place of the first explanation to which no longer one adds `GAIN` for each further word."""
    return next(
        k for k in range(len(gains)) if not any(gains[m] > gains[k] + GAIN * (m - k) for m in range(k + 1, len(gains)))
    )


class World(NamedTuple):
    """Images, words, and neurons of which it is known what they follow."""

    features: Tensor
    """(n, d) float32, normalised."""
    texts: Tensor
    """(M, d) float32, normalised."""
    activations: Tensor
    """(n, D) float32."""
    concepts: list[int]
    """Word that each neuron follows."""


def planted(images: int = 1000, neurons: int = 24, words: int = 60, width: int = 48, noise: float = 0.6) -> World:
    """Neurons above 0 on the images that show their concept, each its own, and a little on others.

    Images and words are as alike as those of CLIP: with a mean that is not 0.
    """
    kinds = torch.randn(words, width)
    shown = torch.arange(images) % words
    mean = torch.randn(width)
    features = torch.nn.functional.normalize(kinds[shown] + 0.8 * torch.randn(images, width) + mean, dim=1)
    texts = torch.nn.functional.normalize(kinds + 0.3 * torch.randn(words, width) - mean, dim=1)
    signals = contrast_signals(features, texts)[:, :neurons]
    signals = (signals - signals.mean(0)) / signals.std(0)
    activations = (signals + noise * torch.randn(images, neurons)).relu().float()
    return World(features, texts, activations, list(range(neurons)))
