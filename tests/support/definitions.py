"""Definitions written for the tests alone, in float64 and without the library's code."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

FLOAT32_EPS = 2.0**-23


def philox_numpy(seed: int, counter: np.ndarray, rounds: int = 7) -> np.ndarray:
    """Philox-4x32 of Random123 in unsigned arithmetic: (…, 4) uint32 for uint64 counters."""
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    counter = counter.astype(np.uint64)
    c = [counter & low, counter >> shift, np.zeros_like(counter), np.zeros_like(counter)]
    key = [np.uint64(seed & 0xFFFFFFFF), np.uint64((seed >> 32) & 0xFFFFFFFF)]
    for _ in range(rounds):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> shift) ^ c[1] ^ key[0], p1 & low, (p0 >> shift) ^ c[3] ^ key[1], p0 & low]
        key = [(key[0] + np.uint64(0x9E3779B9)) & low, (key[1] + np.uint64(0xBB67AE85)) & low]
    return np.stack(c, axis=-1).astype(np.uint32)


def gumbel_numpy(seed: int, rows: int, units: int) -> np.ndarray:
    """The documented noise in float64: unit k of row r is lane k mod 4 of counter r·⌈units/4⌉ + ⌊k/4⌋."""
    r, k = np.meshgrid(np.arange(rows), np.arange(units), indexing="ij")
    bits = np.take_along_axis(philox_numpy(seed, r * -(-units // 4) + k // 4), (k % 4)[..., None], -1)[..., 0]
    v = bits.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)
    return -np.log(-np.log1p(-np.minimum(v, np.float32(1 - 2.0**-24)).astype(np.float64)))


def blocks_last(x: Tensor, competitors: int, dim: int) -> Tensor:
    return x.movedim(dim, -1).reshape(-1, x.shape[dim] // competitors, competitors)


def scores(x: Tensor, competitors: int, dim: int, seed: int | None) -> Tensor:
    """Scores h + g of shape (rows, B, U) in float64; no noise without a seed."""
    h = blocks_last(x.detach().cpu().double(), competitors, dim)
    if seed is None:
        return h
    return h + torch.from_numpy(gumbel_numpy(seed, h.shape[0], h.shape[1] * h.shape[2])).view(h.shape)


def margins(z: Tensor) -> Tensor:
    """Distance of the best score of each block from the second best."""
    if z.shape[-1] == 1:
        return torch.full(z.shape[:-1], torch.inf, dtype=z.dtype)
    best = z.topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]


def straight_through(x: Tensor, competitors: int, mode: str, temperature: float, dim: int, seed: int | None) -> Tensor:
    """Output in float64 whose autograd gradient is the straight-through one: forward ξ, backward s."""
    x = x.double()
    h = blocks_last(x, competitors, dim)
    z = h + (scores(x, competitors, dim, seed) - h.detach())
    s = torch.softmax(z / temperature, -1)
    if mode == "relaxed":
        weights = s
    else:
        hard = torch.nn.functional.one_hot(z.argmax(-1), competitors).double()
        weights = hard - s.detach() + s
        # Exact zeros and exact ones, as the layer has: hard − s + s rounds.
        weights = weights + (hard - weights).detach()
    y = weights * h
    moved = x.movedim(dim, -1)
    return y.reshape(moved.shape).movedim(-1, dim)
