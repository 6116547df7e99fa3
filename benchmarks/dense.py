"""The published dense similarities, written out: activations (N, D) and similarities (N, M) whole in memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Dense = Callable[[Tensor, Tensor], Tensor]


def cos(P: Tensor, A: Tensor) -> Tensor:
    """Columns normalised, not centred."""
    return (A / A.norm(dim=0, keepdim=True)).T @ (P / P.norm(dim=0, keepdim=True))


def cos_cubed(P: Tensor, A: Tensor) -> Tensor:
    """Columns centred, cubed, normalised."""
    P, A = (P - P.mean(0)) ** 3, (A - A.mean(0)) ** 3
    P = P / P.norm(dim=0, keepdim=True).clamp_min(1e-3)
    return (A / A.norm(dim=0, keepdim=True).clamp_min(1e-3)).T @ P


def wpmi(P: Tensor, A: Tensor) -> Tensor:
    """Over the 28 most active images."""
    S = torch.softmax(2 * P, dim=1)
    images = A.topk(28, dim=0).indices
    log_p = torch.stack([torch.log(S[images[:, neuron]] + 1e-7).sum(0) for neuron in range(A.shape[1])])
    return log_p - 0.6 * (torch.logsumexp(log_p, 0) - math.log(len(log_p)))


def soft_wpmi(P: Tensor, A: Tensor) -> Tensor:
    """Over the 100 most active images."""
    S = torch.softmax(10 * P, dim=1)
    images = A.topk(100, dim=0).indices
    p = (0.998 - torch.arange(100) / 100 * 0.028)[:, None]
    terms = (torch.log(1 + p * (S[images[:, neuron]] - 1) + 1e-7).sum(0) for neuron in range(A.shape[1]))
    log_p = torch.stack(list(terms))
    return log_p - (torch.logsumexp(log_p, 0) - math.log(len(log_p)))


def rank_reorder(P: Tensor, A: Tensor) -> Tensor:
    """Over the top 5 %, against five random permutations."""
    top = int(0.05 * len(A))
    scores = []
    for neuron in range(A.shape[1]):
        a, images = A[:, neuron].topk(top)
        random = torch.stack([(a[torch.randperm(top)] - a).abs().pow(3).mean() for _ in range(5)]).mean()
        similarities = P[images]
        order = similarities.topk(top, dim=0).indices
        error = (a[order] - a[:, None]).abs().pow(3).mean(0)
        scores.append(-error / random / similarities.mean(0).clamp_min(1e-6) ** 0.5)
    return torch.stack(scores)


DENSE: dict[str, Dense] = {
    "cos": cos,
    "cos_cubed": cos_cubed,
    "wpmi": wpmi,
    "soft_wpmi": soft_wpmi,
    "rank_reorder": rank_reorder,
}
