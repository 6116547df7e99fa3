"""The similarities as they are published: whole matrices of images by neurons and images by concepts.

Written from the formulas, in the form of the published code: P whole, a loop over neurons where it has one. What is
summed up for a neuron is a function of its own, so that the tests can give it images of their choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Formula = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of (N, d) image and (M, d) text embeddings and (N, D) activations, the (D, M) scores."""


def cos(features: Tensor, texts: Tensor, A: Tensor) -> Tensor:
    """Cosines of the columns."""
    P = features @ texts.T
    return (A / A.norm(dim=0)).T @ (P / P.norm(dim=0))


def cos_cubed(features: Tensor, texts: Tensor, A: Tensor) -> Tensor:
    """Cosines of the cubes of the centred columns."""
    P = features @ texts.T
    P, A = (P - P.mean(0)) ** 3, (A - A.mean(0)) ** 3
    return (A / A.norm(dim=0).clamp_min(1e-3)).T @ (P / P.norm(dim=0).clamp_min(1e-3))


def wpmi(features: Tensor, texts: Tensor, A: Tensor) -> Tensor:
    """Top 28 images, scale 2, λ = 0.6."""
    S = torch.softmax(2 * (features @ texts.T), dim=1)
    tops = A.topk(28, dim=0).indices.T
    return less_prior(torch.stack([wpmi_log_p(S[top]) for top in tops]), 0.6)


def wpmi_log_p(S: Tensor) -> Tensor:
    """Logarithms of the product of the (k, M) probabilities of a neuron's top images, (M,)."""
    return torch.log(S + 1e-7).sum(0)


def soft_wpmi(features: Tensor, texts: Tensor, A: Tensor) -> Tensor:
    """Top 100 images, scale 10, λ = 1."""
    S = torch.softmax(10 * (features @ texts.T), dim=1)
    p = memberships(S)
    tops = A.topk(100, dim=0).indices.T
    return less_prior(torch.stack([soft_wpmi_log_p(S[top], p) for top in tops]), 1.0)


def memberships(S: Tensor) -> Tensor:
    """Probabilities that the top 100 images excite a neuron, from the first to the last, (100, 1) in the type of S."""
    return 0.998 - torch.arange(100, dtype=S.dtype)[:, None] / 100 * (0.998 - 0.97)


def soft_wpmi_log_p(S: Tensor, p: Tensor) -> Tensor:
    """As `wpmi_log_p`, of images that excite the neuron with the probabilities p (k, 1) only."""
    return torch.log(1 + p * (S - 1) + 1e-7).sum(0)


def less_prior(log_p: Tensor, lam: float) -> Tensor:
    """Pointwise mutual information of (D, M) logarithms of probabilities: less λ times that of their mean."""
    return log_p - lam * (torch.logsumexp(log_p, 0) - math.log(len(log_p)))


def rank_reorder(features: Tensor, texts: Tensor, A: Tensor) -> Tensor:
    """Top 5 % of the images, five random orders."""
    P = features @ texts.T
    values, tops = A.topk(int(len(A) * 0.05), dim=0)
    scores = []
    for falling, top in zip(values.T, tops.T, strict=True):
        rising = falling.flip(0)
        shuffled = torch.stack([rising[torch.randperm(len(rising))] for _ in range(5)])
        random = ((rising - shuffled).abs() ** 3).mean()
        scores.append(-reordering_error(P[top], falling, random) / P[top].mean(0) ** 0.5)
    return torch.stack(scores)


def reordering_error(P: Tensor, falling: Tensor, random: Tensor) -> Tensor:
    """What it costs to order the falling (k,) activations by the (k, M) similarities, relative to a random order."""
    reordered = falling.flip(0)[P.argsort(0).argsort(0)]
    return ((falling[:, None] - reordered).abs() ** 3).mean(0) / random


def jsd(features: Tensor, texts: Tensor, A: Tensor) -> Tensor:
    """This library's definition, a neuron at a time; there is no published one."""
    p = torch.softmax(features @ texts.T / 0.05, dim=0)
    q = A.clamp_min(0)
    q = q / q.sum(0)
    return torch.stack(
        [1 + (_entropy(column[:, None]) + _entropy(p)) / 2 - _entropy((column[:, None] + p) / 2) for column in q.T]
    )


def _entropy(x: Tensor) -> Tensor:
    return -torch.special.xlogy(x, x).sum(0) / math.log(2)


FORMULAS: dict[str, Formula] = {
    formula.__name__: formula for formula in (cos, cos_cubed, wpmi, soft_wpmi, rank_reorder, jsd)
}
