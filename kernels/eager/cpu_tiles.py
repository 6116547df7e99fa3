"""Competition on the CPU: the definitions of `competition`, computed in tiles that stay in the cache.

Eager PyTorch reads memory once for every operation, and the competition has about a hundred, most of them Philox. So
the tensor is seen as (outer, K, inner), where the competitors are never innermost (a contiguous last axis is read
transposed), and cut into tiles of TILE elements; every operation runs in place on scratch tensors of a tile. Blocks
with ties or NaN are rare: the exact code of `competition` computes a tile that has one. In a compiled program the
operations on a tile are the loops of `cpu_loops`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lwta.kernels.eager import competition, cpu_loops
from lwta.kernels.triton_parts.blocks import like

TILE = 1 << 19
"""Number of elements in a tile: scratch of a few MB, and enough work for all threads in each operation."""


class _Tile(NamedTuple):
    """Tile: part of a tensor that is seen as (outer, K, inner)."""

    outer: slice
    inner: slice

    def of(self, x: Tensor) -> Tensor:
        return x[self.outer, :, self.inner]


def _outer_units_inner(x: Tensor, dim: int) -> Tensor:
    """Return a view (outer, K, inner) of a tensor from `blocks.prepare`; inner is never the competing axis."""
    last = x.movedim(dim, -1)
    if last.is_contiguous():
        return last.reshape(1, -1, last.shape[-1]).transpose(1, 2)
    return x.reshape(x.shape[:dim].numel(), x.shape[dim], -1)


def _tiles(x: Tensor) -> Iterator[_Tile]:
    """Yield the tiles of a tensor (outer, K, inner)."""
    outer, units, inner = x.shape
    if not x.numel():
        return
    inner_step = min(max(TILE // units, 1), inner)
    outer_step = max(TILE // (units * inner_step), 1) if inner_step == inner else 1
    for o in range(0, outer, outer_step):
        for i in range(0, inner, inner_step):
            yield _Tile(slice(o, min(o + outer_step, outer)), slice(i, min(i + inner_step, inner)))


def _philox(seed: Tensor, counter: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the numbers of `competition.philox_lanes`, computed in six buffers, of which ``counter`` is one."""
    key = int(seed)
    k0, k1 = key & competition.LOW_32, (key >> 32) & competition.LOW_32
    multiplier0, multiplier1 = competition.PHILOX_MULTIPLIERS
    c0, c1 = counter & competition.LOW_32, counter.bitwise_right_shift_(32)
    c2, c3 = torch.zeros_like(c0), torch.zeros_like(c0)
    product0, product1 = torch.empty_like(c0), torch.empty_like(c0)
    for _ in range(competition.PHILOX_ROUNDS):
        torch.mul(c0, multiplier0, out=product0)
        torch.mul(c2, multiplier1, out=product1)
        # High words need no mask of their own: one mask after the exclusive or serves both.
        torch.bitwise_right_shift(product1, 32, out=c0).bitwise_xor_(c1).bitwise_xor_(k0).bitwise_and_(
            competition.LOW_32
        )
        torch.bitwise_right_shift(product0, 32, out=c2).bitwise_xor_(c3).bitwise_xor_(k1).bitwise_and_(
            competition.LOW_32
        )
        c1, product1 = product1, c1
        c3, product0 = product0, c3
        k0 = (k0 + competition.PHILOX_WEYL[0]) & competition.LOW_32
        k1 = (k1 + competition.PHILOX_WEYL[1]) & competition.LOW_32
    return c0, c1.bitwise_and_(competition.LOW_32), c2, c3.bitwise_and_(competition.LOW_32)


def _log_exponential(row: Tensor, quads: int, seed: Tensor) -> Tensor:
    """Return log E, (outer, 4·quads, inner), for rows (outer, inner): the noise of `competition.gumbel` is −log E."""
    outer, positions = row.shape
    counter = (row * quads)[:, None, :] + torch.arange(quads)[:, None]
    v = torch.empty(outer, quads, 4, positions)
    for lane, bits in enumerate(_philox(seed, counter)):
        v[:, :, lane] = bits
    v.mul_(2.0**-32).add_(2.0**-33).clamp_(max=1 - 2.0**-24)
    # −log1p(−v) by a logarithm and the rounding of 1 − v, as in the kernels: log1p itself is five times slower.
    w = torch.rsub(v, 1)
    return v.sub_(1 - w).sub_(w.log_()).log_().flatten(1, 2)


def _responses(
    x: Tensor, tile: _Tile, competitors: int, mode: str, seed: Tensor | None, compiled: bool
) -> tuple[Tensor, Tensor]:
    """Return a tile's responses and scores, float32 (outer, B, U, inner); one tensor twice where there is no noise."""
    part = tile.of(x)
    units = part.shape[1]
    h = torch.empty(part.shape, dtype=torch.float32).copy_(part).unflatten(1, (-1, competitors))
    z = h
    if mode != "argmax" and seed is not None:
        row = torch.arange(tile.outer.start, tile.outer.stop)[:, None] * x.shape[2]
        row = row + torch.arange(tile.inner.start, tile.inner.stop)
        log_exponential = cpu_loops.log_exponential if compiled else _log_exponential
        z = log_exponential(row, -(-units // 4), seed)[:, :units].unflatten(1, (-1, competitors))
        torch.sub(h, z, out=z)
    return h, z


class _Competition(NamedTuple):
    """Competition of a tile; every tensor is (outer, B, U, inner), with 1 for U in ``best``."""

    h: Tensor
    """Responses, float32."""

    z: Tensor
    """Scores: the responses plus noise, or ``h`` itself where there is no noise."""

    best: Tensor
    """Best score of each block."""

    won: Tensor
    """Mask of the winners."""


def _compete(h: Tensor, z: Tensor) -> _Competition:
    best = z.amax(2, keepdim=True)
    won = z == best
    if int(won.count_nonzero()) != best.numel():
        won = competition.one_hot(z.movedim(2, -1)).movedim(-1, 2)
    return _Competition(h, z, best, won)


def _without_minus_infinity_(h: Tensor) -> Tensor:
    return torch.nan_to_num_(h, nan=math.nan, posinf=math.inf, neginf=0.0)


def _softmax_(c: _Competition, temperature: float) -> Tensor:
    """Return softmax(z / τ), which overwrites the scores unless these are the responses."""
    z = c.z.clone() if c.z is c.h else c.z
    weights = z.sub_(c.best).mul_(1 / temperature).exp_()
    return weights.div_(weights.sum(2, keepdim=True))


def _forward(h: Tensor, z: Tensor) -> Tensor:
    c = _compete(h, z)
    passed = torch.where(c.won, h, 0.0)
    return passed.masked_fill_(c.best.isnan(), math.nan) if c.best.isnan().any() else passed


def _backward(h: Tensor, z: Tensor, G: Tensor, mode: str, temperature: float) -> Tensor:
    c = _compete(h, z)
    s = _softmax_(c, temperature)
    passed = s * G if mode == "relaxed" else torch.where(c.won, G, 0.0)
    pull = _without_minus_infinity_(h).mul_(G)
    pull.sub_((s * pull).sum(2, keepdim=True))
    return passed.addcmul_(s, pull, value=1 / temperature)


def lwta(
    x: Tensor, competitors: int, mode: str, temperature: float, dim: int, seed: Tensor | None, compiled: bool
) -> Tensor:
    """Compute `competition.lwta` for a float32, float16 or bfloat16 tensor from `blocks.prepare`.

    ``compiled`` runs the loops of `cpu_loops`.
    """
    y = torch.empty_like(x)
    x, out = _outer_units_inner(x, dim), _outer_units_inner(y, dim)
    for tile in _tiles(x):
        h, z = _responses(x, tile, competitors, mode, seed, compiled)
        if mode == "relaxed":
            s = _softmax_(_compete(h, z), temperature)
            passed = s.mul_(_without_minus_infinity_(h))
        else:
            passed = cpu_loops.forward(h, z) if compiled else _forward(h, z)
        tile.of(out).copy_(passed.flatten(1, 2))
    return y


def lwta_backward(
    grad: Tensor,
    x: Tensor,
    competitors: int,
    mode: str,
    temperature: float,
    dim: int,
    seed: Tensor | None,
    compiled: bool,
) -> Tensor:
    """Compute `competition.lwta_backward` for tensors as in `lwta`."""
    result = torch.empty_like(x)
    grad = _outer_units_inner(like(grad, x), dim)
    x, out = _outer_units_inner(x, dim), _outer_units_inner(result, dim)
    for tile in _tiles(x):
        h, z = _responses(x, tile, competitors, mode, seed, compiled)
        part = tile.of(grad)
        G = torch.empty(part.shape, dtype=torch.float32).copy_(part).unflatten(1, (-1, competitors))
        if compiled and mode != "relaxed":
            passed = cpu_loops.backward(h, z, G, torch.tensor(1 / temperature))
        else:
            passed = _backward(h, z, G, mode, temperature)
        tile.of(out).copy_(passed.flatten(1, 2))
    return result


def winners(
    x: Tensor, value: Tensor, index: Tensor, competitors: int, mode: str, dim: int, seed: Tensor | None
) -> None:
    """Compute `competition.winners` for a tensor as in `lwta`, into ``value`` and ``index``.

    These are (outer, B, inner), in the order of memory.
    """
    x = _outer_units_inner(x, dim)
    if value.shape[2] == 1:  # transposed, as x is
        value, index = value.transpose(0, 2), index.transpose(0, 2)
    competitor = torch.arange(competitors)[:, None]
    for tile in _tiles(x):
        c = _compete(*_responses(x, tile, competitors, mode, seed, compiled=False))
        tile.of(index).copy_((c.won * competitor).sum(2))
        tile.of(value).copy_(torch.where(c.won, c.h, 0.0).sum(2).masked_fill_(c.best.squeeze(2).isnan(), math.nan))
