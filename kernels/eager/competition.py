"""Eager PyTorch definitions of the operations of the competition, which the kernels must equal.

Notation, for a tensor whose axis of K = B·U linear units is split into B consecutive blocks of U competitors:

    z = h + g                responses plus Gumbel noise (no noise in mode "argmax")
    ξ = one-hot(argmax z)    the winner; ties go to the lower index
    s = softmax(z / τ)       its relaxation
    y = ξ·h                  the output ("relaxed": y = s·h)

A block with a NaN response is NaN throughout, and its winner is competitor 0. A response of −inf has s = 0, and s·h is
0 there. Arithmetic is float32, or float64 for float64 input.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

PHILOX_ROUNDS = 7  # the fewest that pass BigCrush: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011
PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)
LOW_32 = 0xFFFFFFFF


def philox(seed: Tensor, counter: Tensor, rounds: int = PHILOX_ROUNDS) -> Tensor:
    """Return four random 32-bit numbers for each counter, by Philox-4x32.

    Args:
        seed: 0-dim int64, the 64-bit key.
        counter: int64 of any shape, the low half of the 128-bit counter.
        rounds: rounds of the bijection.

    Returns:
        Numbers in [0, 2³²), int64 of shape ``(*counter.shape, 4)``.
    """
    return torch.stack(philox_lanes(seed, counter, rounds), dim=-1)


def philox_lanes(seed: Tensor, counter: Tensor, rounds: int = PHILOX_ROUNDS) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the four numbers of `philox` as four tensors, each of the shape of ``counter``."""
    c0, c1 = counter & LOW_32, (counter >> 32) & LOW_32
    c2, c3 = torch.zeros_like(c0), torch.zeros_like(c0)
    k0, k1 = seed & LOW_32, (seed >> 32) & LOW_32
    for _ in range(rounds):
        product0, product1 = c0 * PHILOX_MULTIPLIERS[0], c2 * PHILOX_MULTIPLIERS[1]  # int64 wraps, bits are right
        c0, c2 = ((product1 >> 32) & LOW_32) ^ c1 ^ k0, ((product0 >> 32) & LOW_32) ^ c3 ^ k1
        c1, c3 = product1 & LOW_32, product0 & LOW_32
        k0, k1 = (k0 + PHILOX_WEYL[0]) & LOW_32, (k1 + PHILOX_WEYL[1]) & LOW_32
    return c0, c1, c2, c3


def gumbel(seed: Tensor, rows: int, units: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return Gumbel(0, 1) noise, (rows, units), on the seed's device, for ``rows`` positions of ``units`` units each.

    Unit k of row r takes lane k mod 4 of the Philox counter r·⌈units/4⌉ + ⌊k/4⌋: a rule of the logical element alone,
    so that every kernel draws the same noise whatever its tiles and the memory layout.

    With v uniform on (0, 1), −log(−log1p(−v)) keeps the winning tail fine: v is as small as 2⁻³³ there. v is rounded
    to float32 whatever the dtype of the result, so that all types draw the same winners.
    """
    quads = -(-units // 4)
    bits = philox(seed, torch.arange(rows * quads, device=seed.device))
    v = bits.view(rows, quads * 4)[:, :units].to(torch.float32) * 2.0**-32 + 2.0**-33
    return -torch.log(-torch.log1p(-v.clamp(max=1 - 2.0**-24).to(dtype)))


def _competition_last(x: Tensor, competitors: int, dim: int) -> Tensor:
    """Return ``x`` with shape (…, B, U), in float32 or wider."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return x.movedim(dim, -1).unflatten(-1, (-1, competitors)).to(dtype)


def _competition_back(blocks: Tensor, x: Tensor, dim: int) -> Tensor:
    """Return blocks (…, B, U) in the shape, dtype and memory layout of ``x``."""
    return torch.empty_like(x).copy_(blocks.flatten(-2).movedim(-1, dim))


def _scores(h: Tensor, mode: str, seed: Tensor | None) -> Tensor:
    """Return the scores z = h + g for responses of shape (…, B, U)."""
    if mode == "argmax" or seed is None:
        return h
    units = h.shape[-2] * h.shape[-1]
    rows = h.numel() // max(units, 1)
    return h + gumbel(seed, rows, units, h.dtype).view(h.shape)


def without_minus_infinity(h: Tensor) -> Tensor:
    """Return the responses with 0 in place of −inf, whose weight in every sum is 0."""
    return torch.nan_to_num(h, nan=math.nan, posinf=math.inf, neginf=0.0)


def _winner(z: Tensor) -> Tensor:
    """Return the index of each block's winner, (…, B, 1); 0 for a block with NaN."""
    poisoned = z.isnan().any(-1, keepdim=True)
    return z.argmax(-1, keepdim=True).masked_fill(poisoned, 0)


def one_hot(z: Tensor) -> Tensor:
    """Return ξ, the one-hot code of each block's winner, as a boolean mask."""
    return torch.arange(z.shape[-1], device=z.device) == _winner(z)


def lwta(x: Tensor, competitors: int, mode: str, temperature: float, dim: int, seed: Tensor | None) -> Tensor:
    """Return y = ξ·h, or s·h in mode "relaxed", in the shape, dtype and layout of ``x``."""
    h = _competition_last(x, competitors, dim)
    z = _scores(h, mode, seed)
    if mode == "relaxed":
        y = torch.softmax(z / temperature, -1) * without_minus_infinity(h)
    else:
        y = torch.where(one_hot(z), h, 0.0)
    return _competition_back(torch.where(h.isnan().any(-1, keepdim=True), math.nan, y), x, dim)


def lwta_backward(
    grad: Tensor, x: Tensor, competitors: int, mode: str, temperature: float, dim: int, seed: Tensor | None
) -> Tensor:
    """Return ∂L/∂h = G·ξ + (s/τ)·(G·h − Σ_v s_v·G_v·h_v) for G = ∂L/∂y; in mode "relaxed" with s in place of ξ."""
    h, G = _competition_last(x, competitors, dim), _competition_last(grad, competitors, dim)
    z = _scores(h, mode, seed)
    s = torch.softmax(z / temperature, -1)
    passed = s * G if mode == "relaxed" else torch.where(one_hot(z), G, 0.0)
    pull = G * without_minus_infinity(h)
    pull = pull - (s * pull).sum(-1, keepdim=True)
    return _competition_back(passed + s / temperature * pull, x, dim)


def winners(x: Tensor, competitors: int, mode: str, dim: int, seed: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return value and index (int64) of each block's winner, both of shape (…, B) with the blocks' axis last."""
    h = _competition_last(x, competitors, dim)
    index = _winner(_scores(h, mode, seed))
    value = torch.where(h.isnan().any(-1, keepdim=True), math.nan, h.gather(-1, index))
    return value.squeeze(-1).to(x.dtype), index.squeeze(-1)


def winners_backward(grad: Tensor, index: Tensor, competitors: int, dim: int) -> Tensor:
    """Return ∂L/∂h for G = ∂L/∂value of shape (…, B): G at the winner, 0 at the losers.

    It has the memory layout of the indices, which is that of the responses they were found in.
    """
    axis = dim if index.movedim(-1, dim).is_contiguous() else index.ndim - 1
    grad, index = grad.movedim(-1, axis), index.movedim(-1, axis)
    dense = grad.new_zeros((*grad.shape[: axis + 1], competitors, *grad.shape[axis + 1 :]))
    dense.scatter_(axis + 1, index.to(torch.int64).unsqueeze(axis + 1), grad.unsqueeze(axis + 1))
    return dense.flatten(axis, axis + 1).movedim(axis, dim)


def kl_to_uniform(x: Tensor, competitors: int, dim: int) -> Tensor:
    """Return the mean over blocks of KL(π ‖ uniform) = Σ_u π_u·log π_u + log U, with π = softmax_u(h); 0 if empty."""
    log_pi = torch.log_softmax(_competition_last(x, competitors, dim), -1)
    negative_entropy = torch.where(log_pi == -math.inf, 0.0, log_pi.exp() * log_pi).sum(-1)
    return (negative_entropy + math.log(competitors)).sum() / max(negative_entropy.numel(), 1)


def kl_to_uniform_backward(grad: Tensor, x: Tensor, competitors: int, dim: int) -> Tensor:
    """Return the gradient of `kl_to_uniform`: π_u·(log π_u − Σ_v π_v·log π_v) / number of blocks, times ``grad``."""
    log_pi = torch.log_softmax(_competition_last(x, competitors, dim), -1)
    pi = log_pi.exp()
    log_pi = torch.where(log_pi == -math.inf, 0.0, log_pi)
    blocks = max(x.numel() // competitors, 1)
    return _competition_back(grad * pi * (log_pi - (pi * log_pi).sum(-1, keepdim=True)) / blocks, x, dim)


def winners_to_dense(value: Tensor, index: Tensor, competitors: int) -> Tensor:
    """Return the dense output, (…, B·U), of values and indices (…, B): the values at the winners, 0 elsewhere."""
    return winners_backward(value, index, competitors, value.ndim - 1)


def winners_linear(value: Tensor, index: Tensor, weight: Tensor, bias: Tensor | None, competitors: int) -> Tensor:
    """Return y = x·Wᵀ + b for x of shape (…, B·U), which is 0 except at the winners."""
    return torch.nn.functional.linear(winners_to_dense(value, index, competitors), weight, bias)


def winners_linear_backward(
    grad: Tensor, value: Tensor, index: Tensor, weight: Tensor, competitors: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `winners_linear` with respect to value, weight and bias."""
    by_unit = (grad @ weight).unflatten(-1, (-1, competitors))
    grad_value = by_unit.gather(-1, index.to(torch.int64).unsqueeze(-1)).squeeze(-1)
    rows = grad.reshape(-1, grad.shape[-1])
    dense = winners_to_dense(value, index, competitors).reshape(-1, weight.shape[1])
    return grad_value, rows.t() @ dense, rows.sum(0)
