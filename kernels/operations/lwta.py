"""Competition of blocks, dense in and dense out, forward and backward.

    z = h + g,   ξ = one-hot(argmax_u z),   s = softmax_u(z / τ)
    forward    y = ξ·h                                             (relaxed: y = s·h)
    backward   ∂L/∂h = G·ξ + (s/τ)·(G·h − Σ_v s_v·G_v·h_v)         (relaxed: s for ξ)

Straight-through Gumbel-softmax (Jang et al. 2017; Maddison et al. 2017) over blocks (DISCOVER, arXiv 2310.04929,
eqs. 3-5). Saved for backward: x and the seed; noise, winners and softmax are computed again.

A response of −inf has s = 0: 0·h counts as 0 there, not as NaN, so that masked units neither learn nor disturb others.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from lwta.kernels import eager
from lwta.kernels.transforms import transformable
from lwta.kernels.triton_parts.blocks import (
    OPTIONS,
    block_softmax,
    block_winner,
    by_block,
    like,
    load,
    load_scores,
    prepare,
    store,
    tile,
)
from lwta.kernels.triton_parts.launch import fast_math, on_its_device

LOG2E = math.log2(math.e)
LOWEST = tl.constexpr(-(2.0**64))
"""Replacement of −inf where a response is multiplied by its weight 0: one instruction, where a comparison takes two."""


@triton.jit(do_not_specialize=["inner_multiples"])
def _forward_kernel(
    x_ptr, seed_ptr, y_ptr, log2_scale, instances, units, inner_multiples,
    INNER_MULTIPLE: tl.constexpr, U: tl.constexpr, SPAN: tl.constexpr, WIDTH: tl.constexpr,
    INSTANCES: tl.constexpr, CONTIGUOUS: tl.constexpr, BIG: tl.constexpr,
    NOISE: tl.constexpr, RELAXED: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    instance, offsets, exists = tile(
        tl.program_id(0), instances, inner_multiples, INNER_MULTIPLE, SPAN, WIDTH, INSTANCES, CONTIGUOUS, BIG
    )
    h, z = load_scores(
        x_ptr, seed_ptr, instance, offsets, exists, units, inner_multiples,
        INNER_MULTIPLE, U, SPAN, WIDTH, CONTIGUOUS, NOISE, FAST,
    )  # fmt: skip
    best, winner = block_winner(z)
    if RELAXED:
        weights, normaliser = block_softmax(z, best, log2_scale, FAST)
        y = weights * normaliser * tl.where(weights == 0.0, 0.0, h)  # h may be −inf
    else:
        silent = tl.where(best == best, 0.0, best)  # a block with NaN is NaN throughout
        y = tl.where(tl.arange(0, z.shape[1])[None, :] == winner, h, silent)
    store(y_ptr, offsets, exists, tl.reshape(y, (INSTANCES, WIDTH)), WIDTH, CONTIGUOUS)


@triton.jit(do_not_specialize=["inner_multiples"])
def _backward_kernel(
    grad_ptr, x_ptr, seed_ptr, out_ptr, log2_scale, inverse_temperature, instances, units, inner_multiples,
    INNER_MULTIPLE: tl.constexpr, U: tl.constexpr, SPAN: tl.constexpr, WIDTH: tl.constexpr,
    INSTANCES: tl.constexpr, CONTIGUOUS: tl.constexpr, BIG: tl.constexpr,
    NOISE: tl.constexpr, RELAXED: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    instance, offsets, exists = tile(
        tl.program_id(0), instances, inner_multiples, INNER_MULTIPLE, SPAN, WIDTH, INSTANCES, CONTIGUOUS, BIG
    )
    G = by_block(load(grad_ptr, offsets, exists, WIDTH, CONTIGUOUS), U, SPAN, WIDTH)
    h, z = load_scores(
        x_ptr, seed_ptr, instance, offsets, exists, units, inner_multiples,
        INNER_MULTIPLE, U, SPAN, WIDTH, CONTIGUOUS, NOISE, FAST,
    )  # fmt: skip
    best, winner = block_winner(z)
    weights, normaliser = block_softmax(z, best, log2_scale, FAST)
    pull = G * tl.maximum(h, LOWEST)
    pull -= tl.sum(weights * pull, axis=1)[:, None] * normaliser
    is_winner = tl.arange(0, z.shape[1])[None, :] == winner
    passed = weights * normaliser * G if RELAXED else tl.where(is_winner, G, 0.0)
    out = passed + weights * (normaliser * inverse_temperature) * pull
    store(out_ptr, offsets, exists, tl.reshape(out, (INSTANCES, WIDTH)), WIDTH, CONTIGUOUS)


@on_its_device
def launch_forward(x: Tensor, competitors: int, mode: str, temperature: float, dim: int, seed: Tensor | None) -> Tensor:
    """Run the forward kernel; arguments as in `eager.competition.lwta`."""
    x, layout = prepare(x, competitors, dim)
    y = torch.empty_like(x)
    if x.numel():
        _forward_kernel[(layout.programs(),)](
            x, seed, y, LOG2E / temperature, **layout.arguments(),
            NOISE=mode != "argmax", RELAXED=mode == "relaxed", FAST=fast_math(x), **OPTIONS,
        )  # fmt: skip
    return y


@on_its_device
def launch_backward(
    grad: Tensor, x: Tensor, competitors: int, mode: str, temperature: float, dim: int, seed: Tensor | None
) -> Tensor:
    """Run the backward kernel; arguments as in `eager.competition.lwta_backward`."""
    x, layout = prepare(x, competitors, dim)
    out = torch.empty_like(x)
    if x.numel():
        _backward_kernel[(layout.programs(),)](
            like(grad, x), x, seed, out, LOG2E / temperature, 1 / temperature, **layout.arguments(),
            NOISE=mode != "argmax", RELAXED=mode == "relaxed", FAST=fast_math(x), **OPTIONS,
        )  # fmt: skip
    return out


@torch.library.custom_op("lwta::lwta", mutates_args=())
def lwta(
    x: Tensor,
    competitors: int,
    mode: str,
    temperature: float,
    dim: int,
    seed: Tensor | None,
    compiled: bool = False,
    annealed: Tensor | None = None,
) -> Tensor:
    """Compute the operation on any device; `lwta.functional.lwta` checks and documents the arguments.

    ``compiled`` means that the program is compiled, so that the code for the CPU may be compiled as well. ``annealed``
    is the temperature as a tensor, 0-dim on the CPU, in the place of the number: a compiled program has it so where it
    changes from call to call, since it would be compiled anew for every number that an operator is given.
    """
    if annealed is not None:
        temperature = annealed.item()
    if x.dtype == torch.float64:
        return eager.competition.lwta(prepare(x, competitors, dim)[0], competitors, mode, temperature, dim, seed)
    if x.is_cuda:
        return launch_forward(x, competitors, mode, temperature, dim, seed)
    return eager.cpu_tiles.lwta(prepare(x, competitors, dim)[0], competitors, mode, temperature, dim, seed, compiled)


@torch.library.custom_op("lwta::lwta_backward", mutates_args=())
def lwta_backward(
    grad: Tensor,
    x: Tensor,
    competitors: int,
    mode: str,
    temperature: float,
    dim: int,
    seed: Tensor | None,
    compiled: bool = False,
    annealed: Tensor | None = None,
) -> Tensor:
    """Return the gradient of `lwta` with respect to x."""
    if annealed is not None:
        temperature = annealed.item()
    if x.dtype == torch.float64:
        return eager.competition.lwta_backward(
            grad, prepare(x, competitors, dim)[0], competitors, mode, temperature, dim, seed
        )
    if x.is_cuda:
        return launch_backward(grad, x, competitors, mode, temperature, dim, seed)
    return eager.cpu_tiles.lwta_backward(
        grad, prepare(x, competitors, dim)[0], competitors, mode, temperature, dim, seed, compiled
    )


@lwta.register_fake
def _(x, competitors, mode, temperature, dim, seed, compiled=False, annealed=None) -> Tensor:
    return torch.empty_like(prepare(x, competitors, dim)[0])


@lwta_backward.register_fake
def _(grad, x, competitors, mode, temperature, dim, seed, compiled=False, annealed=None) -> Tensor:
    return torch.empty_like(prepare(x, competitors, dim)[0])


_differentiate = transformable(lwta_backward)


def _setup_context(ctx, inputs, output) -> None:
    x, *ctx.options, seed, ctx.compiled, annealed = inputs
    ctx.save_for_backward(x, seed, annealed)


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, seed, annealed = ctx.saved_tensors
    return _differentiate(grad, x, *ctx.options, seed, ctx.compiled, annealed), None, None, None, None, None, None, None


transformable_lwta = transformable(lwta, _backward, _setup_context)
