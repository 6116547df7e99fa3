"""Eager PyTorch definitions of the operations of dissection, which the kernels must equal; they run without a GPU.

Notation: N images with CLIP embeddings I (N, d), M concepts with embeddings T (M, d), D neurons; P = I·Tᵀ (N, M). Only
so many rows of P are in memory at a time that they hold TILE numbers. Arithmetic is float32, or float64 for float64
input.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lwta.kernels.eager import competition

TILE = 1 << 21
"""Number of elements of P that are in memory at a time."""

EPSILON = 1e-7
"""Number that the published code adds to a probability before it takes the logarithm."""


def common_dtype(*tensors: Tensor) -> torch.dtype:
    """Return float64 if any of the tensors has this type, else float32."""
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def _common(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in their common type."""
    dtype = common_dtype(*tensors)
    return tuple(x.to(dtype) for x in tensors)


def _tiles(rows: int, numbers_per_row: int) -> Iterator[slice]:
    """Yield slices of the rows, each of about TILE numbers."""
    step = max(TILE // max(numbers_per_row, 1), 1)
    yield from (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def winners_sum(value: Tensor, index: Tensor, x: Tensor, competitors: int) -> Tensor:
    """Return AᵀX, (B·U, d), for rows X (n, d) and the dense output A (n, B·U) of winners (n, B)."""
    value, x = _common(value, x)
    total = x.new_zeros(value.shape[1] * competitors, x.shape[1])
    for tile in _tiles(len(x), len(total)):
        total += competition.winners_to_dense(value[tile], index[tile], competitors).t() @ x[tile]
    return total


def concept_similarity(
    images: Tensor, texts: Tensor, weights: Tensor, centre: Tensor, power: int
) -> tuple[Tensor, Tensor]:
    """Return Wᵀf(P), (D, M), and Σ_n f(P)², (M,), with f(P) = (P − centre)^power and weights W (N, D)."""
    images, texts, weights, centre = _common(images, texts, weights, centre)
    products = weights.new_zeros(weights.shape[1], texts.shape[0])
    squares = weights.new_zeros(texts.shape[0])
    for tile in _tiles(images.shape[0], texts.shape[0]):
        P = (images[tile] @ texts.t()).sub_(centre)
        P = P**power
        products += weights[tile].t() @ P
        squares += P.square().sum(0)
    return products, squares


def concept_logsumexp(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    """Return log Σ_m exp(scale·P[n, m]), (N,)."""
    images, texts = _common(images, texts)
    result = images.new_empty(images.shape[0])
    for tile in _tiles(images.shape[0], texts.shape[0]):
        result[tile] = torch.logsumexp(scale * (images[tile] @ texts.t()), 1)
    return result


def concept_log_p(images: Tensor, texts: Tensor, lse: Tensor, top: Tensor, p: Tensor, scale: float) -> Tensor:
    """Return Σ_j log(1 + p_j·(S[n_j, m] − 1) + 1e-7), (D, M), over the images n_j of ``top`` (D, k), −1 for none.

    S = exp(scale·P − lse). The difference 1 − p_j is computed first: p_j·S is often smaller than float32 resolves
    beside 1, and is so added to a number near its own size.
    """
    images, texts, lse, p = _common(images, texts, lse, p)
    rest = ((1 - p) + EPSILON)[:, None]
    result = images.new_zeros(top.shape[0], texts.shape[0])
    if not len(images):
        return result
    for tile in _tiles(top.shape[0], top.shape[1] * texts.shape[0]):
        image, place = top[tile].clamp(min=0).unique(return_inverse=True)
        S = (scale * (images[image] @ texts.t()) - lse[image, None]).exp_()
        terms = S[place].mul_(p[:, None]).add_(rest).log_()
        result[tile] = terms.masked_fill_((top[tile] < 0)[:, :, None], 0).sum(1)
    return result
