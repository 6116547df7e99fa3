"""What similarities are given, and what they should return: the published formulas, and rules beside them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import published
from benchmarks.published import FORMULAS
from lwta.dissection.recording.activations import Activations, DenseActivations
from lwta.dissection.recording.recording import Shard
from lwta.dissection.similarity import Similarity


def unit_rows(n: int, d: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(n, d), dim=1)


def shards(features: Tensor, activations: Activations | Tensor, order: list[list[int]]) -> list[Shard]:
    """One shard for each list of image numbers."""
    dense = activations if isinstance(activations, Tensor) else activations.dense()
    return [Shard(torch.tensor(part), features[part], DenseActivations(dense[part])) for part in order]


def scored(similarity: Similarity, parts: list[Shard], texts: Tensor) -> Tensor:
    for part in parts:
        similarity.update(part)
    return similarity.finalize(texts)


def pieces(n: int, size: int) -> list[list[int]]:
    return [list(range(start, min(start + size, n))) for start in range(0, n, size)]


def expected(name: str, features: Tensor, texts: Tensor, activations: Tensor, won: Tensor) -> Tensor:
    """The scores in float64: those of the published formula where it has any.

    Beside it stand the rules of this library: a neuron that never won has no score; only images that it won are among
    its top images, and of fewer than k of them the sum of logarithms counts as k times the mean; of equal activations
    the one of the earlier image is the larger; a random order stands for the mean over all; an order of equal
    activations is as good as a random one; a mean similarity below 1e-6 counts as that. The similarities that are this
    library's own are written out below.

    Args:
        name: of the similarity.
        features: embeddings of images, (N, d).
        texts: embeddings of concepts, (M, d).
        activations: (N, D).
        won: whether a neuron won on an image, (N, D) bool; without competition, everywhere.
    """
    features, texts, A = features.double(), texts.double(), activations.double()
    if name in OWN:
        return OWN[name](features, texts, A, won)
    alive = won.any(0)
    scores = torch.full((A.shape[1], len(texts)), math.nan, dtype=torch.float64)
    if name in ("cos", "cos_cubed", "jsd"):
        scores[alive] = FORMULAS[name](features, texts, A)[alive]
        return scores
    P = features @ texts.T
    of_one = {"wpmi": _wpmi_log_p, "soft_wpmi": _soft_wpmi_log_p, "rank_reorder": _rank_reorder}[name]
    for neuron in alive.nonzero().flatten().tolist():
        images = won[:, neuron].nonzero().flatten()
        order = torch.tensor(sorted(range(len(images)), key=lambda i: -A[images[i], neuron].item()))
        scores[neuron] = of_one(P, A[images[order], neuron], images[order])
    if name != "rank_reorder":
        scores[alive] = published.less_prior(scores[alive], {"wpmi": 0.6, "soft_wpmi": 1.0}[name])
    return scores


def _wpmi_log_p(P: Tensor, falling: Tensor, images: Tensor, k: int = 28) -> Tensor:
    top = images[:k]
    return published.wpmi_log_p(torch.softmax(2 * P[top], 1)) * k / len(top)


def _soft_wpmi_log_p(P: Tensor, falling: Tensor, images: Tensor, k: int = 100) -> Tensor:
    top = images[:k]
    S = torch.softmax(10 * P[top], 1)
    return published.soft_wpmi_log_p(S, published.memberships(S)[: len(top)]) * k / len(top)


def _rank_reorder(P: Tensor, falling: Tensor, images: Tensor) -> Tensor:
    k = max(len(P) // 20, 1)
    top, falling = images[:k], falling[:k]
    random = (falling[:, None] - falling).abs().pow(3).mean()
    error = published.reordering_error(P[top], falling, random) if random > 0 else 1
    return -error / P[top].mean(0).clamp_min(1e-6) ** 0.5


def _correlation(features: Tensor, texts: Tensor, A: Tensor, won: Tensor) -> Tensor:
    """Pearson's r of every neuron and the contrast of every concept; 0 with a constant contrast, NaN for a constant A.

    The linear explanation ranks single words by the same numbers.
    """
    contrast = features @ (texts - texts.mean(0)).T
    contrast = contrast - contrast.mean(0)
    flat = contrast.norm(dim=0) < 1e-5 * len(features) ** 0.5
    scores = (A - A.mean(0)).T @ (contrast / contrast.norm(dim=0))
    scores = scores.masked_fill(flat, 0) / (A - A.mean(0)).norm(dim=0)[:, None]
    return scores.masked_fill(_constant(A)[:, None], math.nan)


def _specific(features: Tensor, texts: Tensor, A: Tensor, won: Tensor) -> Tensor:
    """r − τ·log Σ_j exp(r_j / τ), r of covariances that are shrunk where images hardly vary; τ = 0.04, κ = 0.5."""
    centred, contrast = features - features.mean(0), texts - texts.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(features))
    alive = ~_constant(A)
    along = (A - A.mean(0)).T @ centred @ vectors / len(A)
    along = along * (values / (values + 0.5 * values.mean()))
    deviations = (A - A.mean(0)).square().mean(0).sqrt()
    r = (along @ vectors.T @ contrast.T) / deviations[:, None] / (centred @ contrast.T).square().mean(0).sqrt()
    scores = torch.full_like(r, math.nan)
    scores[alive] = r[alive] - 0.04 * (r[alive] / 0.04).exp().sum(0).log()
    return scores


def _peak(features: Tensor, texts: Tensor, A: Tensor, won: Tensor) -> Tensor:
    """Soft WPMI and correlation, each with mean 0 and deviation 1 over the concepts; 0 for a constant neuron."""
    parts = expected("soft_wpmi", features, texts, A, won), _correlation(features, texts, A, won).nan_to_num(0)
    return sum(_standardised(part) for part in parts)  # type: ignore[return-value]


def _standardised(scores: Tensor) -> Tensor:
    centred = scores - scores.mean(1, keepdim=True)
    return centred / centred.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)


def _constant(A: Tensor) -> Tensor:
    return A.amax(0) == A.amin(0)


OWN: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "correlation": _correlation,
    "linear": _correlation,
    "specific": _specific,
    "peak": _peak,
}
"""Similarities that are not published, by name: of embeddings, texts, activations, and whether they were won."""
