"""Competition on the CPU under `torch.compile`: the operations of `cpu_tiles` on a tile, as loops that Inductor fuses.

Where a program is compiled, there is a compiler, and the hundred operations on a tile become three loops, for noise,
forward and backward. Vectors run along the positions, and every size is dynamic, so that one compilation serves all
shapes and U. The operation stays one node of the user's graph, and calls these functions from within: traced into the
graph, the loops would run along the competitors, or would not be vectorised at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from lwta.kernels.eager import competition


def _log_exponential(row: Tensor, quads: int, seed: Tensor) -> Tensor:
    lanes = competition.philox_lanes(seed, (row * quads)[:, None, :] + torch.arange(quads)[:, None])
    v = torch.stack(lanes, 2).float().mul(2.0**-32).add(2.0**-33).clamp(max=1 - 2.0**-24)
    w = 1 - v
    return torch.log((v - (1 - w)) - torch.log(w)).flatten(1, 2)


def _winner(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best score of each block, and ξ as a mask; nobody wins a block with NaN."""
    best = z.amax(2, keepdim=True)
    competitor = torch.arange(z.shape[2], dtype=z.dtype)[:, None]
    first = torch.where(z == best, competitor, math.inf).amin(2, keepdim=True)
    return best, competitor == first


def _forward(h: Tensor, z: Tensor) -> Tensor:
    best, won = _winner(z)
    return torch.where(best.isnan(), math.nan, torch.where(won, h, 0.0))


def _backward(h: Tensor, z: Tensor, G: Tensor, inverse_temperature: Tensor) -> Tensor:
    best, won = _winner(z)
    weights = ((z - best) * inverse_temperature).exp()
    normaliser = 1 / weights.sum(2, keepdim=True)
    pull = G * torch.where(h == -math.inf, 0.0, h)
    mean = (weights * pull).sum(2, keepdim=True) * normaliser
    return torch.where(won, G, 0.0) + weights * (normaliser * inverse_temperature) * (pull - mean)


@cache
def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compile a function at its first use: importing Inductor takes longer than importing the library."""
    return torch.compile(function, dynamic=True)


# Same names and arguments as the eager functions in `cpu_tiles`.
def log_exponential(row: Tensor, quads: int, seed: Tensor) -> Tensor:
    """Return log E of exponential variables E, (outer, 4·quads, inner)."""
    return _compiled(_log_exponential)(row, quads, seed)


def forward(h: Tensor, z: Tensor) -> Tensor:
    """Return the output of blocks with responses h and scores z, (outer, blocks, U, inner)."""
    return _compiled(_forward)(h, z)


def backward(h: Tensor, z: Tensor, G: Tensor, inverse_temperature: Tensor) -> Tensor:
    """Return the gradient with respect to the responses h, for the gradient G with respect to the output."""
    return _compiled(_backward)(h, z, G, inverse_temperature)
