"""Linear layer and competition of its units in one kernel: only value and index of each winner reach memory.

    h = x·Wᵀ + b,   z = h + g,   u* = argmax_u z,   value = h_{u*}
    backward   dense ∂L/∂h is ∂L/∂value at the winner and 0 elsewhere; then ∂x = ∂h·W, ∂W = ∂hᵀ·x, ∂b = Σ ∂h

A program computes ROWS rows by BLOCKS blocks, with COMPETITORS units of each block at a time, whose weights are ordered
competitor by competitor. In the layout of the matrix units' accumulator the competitors of a block are then in one
thread, so the competition needs neither shuffles nor shared memory. The best competitor so far is kept from one group
of competitors to the next, as in online softmax. The product hides up to about features/12 instructions per element;
sampling needs about 35.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from lwta.kernels import eager
from lwta.kernels.operations.winners import index_dtype, winners
from lwta.kernels.transforms import transformable
from lwta.kernels.triton_parts import philox
from lwta.kernels.triton_parts.blocks import competitor_group, maximum_or_nan
from lwta.kernels.triton_parts.launch import fast_math, on_its_device, pipeline_stages


@triton.jit
def _noise(
    seed, row, block, blocks, first,
    U: tl.constexpr, COMPETITORS: tl.constexpr, ROWS: tl.constexpr, BLOCKS: tl.constexpr, BIG: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """Return the Gumbel noise of competitors first…first + COMPETITORS − 1, (ROWS, COMPETITORS, BLOCKS)."""
    if BIG:
        row = row.to(tl.int64)
    row_counter = row * tl.cdiv(blocks * U, 4)
    if U % 4 == 0 and COMPETITORS % 4 == 0:
        quad = (first // 4 + tl.arange(0, COMPETITORS // 4))[None, :, None]
        counter = row_counter[:, None, None] + (block * (U // 4))[None, None, :] + quad
        n0, n1, n2, n3 = tl.randint4x(seed, counter, philox.ROUNDS)
        lanes = tl.join(tl.join(n0, n2), tl.join(n1, n3))  # (ROWS, quads, BLOCKS, 2, 2)
        bits = tl.reshape(tl.permute(lanes, (0, 1, 3, 4, 2)), (ROWS, COMPETITORS, BLOCKS))
    elif U == 2:  # a call serves both competitors of two neighbouring blocks
        even_block = tl.min(block, axis=0) + 2 * tl.arange(0, BLOCKS // 2)
        n0, n1, n2, n3 = tl.randint4x(seed, row_counter[:, None] + even_block // 2, philox.ROUNDS)
        lanes = tl.join(tl.join(n0, n2), tl.join(n1, n3))  # (ROWS, BLOCKS / 2, block of the two, competitor)
        bits = tl.reshape(tl.permute(lanes, (0, 3, 1, 2)), (ROWS, COMPETITORS, BLOCKS))
    else:
        competitor = first + tl.arange(0, COMPETITORS)
        unit = (block * U)[None, None, :] + competitor[None, :, None]
        bits = philox.single_bits(seed, row_counter[:, None, None] + unit // 4, unit % 4)
    return philox.gumbel(bits, FAST)


@triton.jit
def _responses(
    x_ptr, weight_ptr, bias_ptr, row, block, rows, blocks, features, first,
    U: tl.constexpr, COMPETITORS: tl.constexpr, ROWS: tl.constexpr, BLOCKS: tl.constexpr, FEATURES: tl.constexpr,
):  # fmt: skip
    """Return the responses h of competitors first…first + COMPETITORS − 1, (ROWS, COMPETITORS, BLOCKS) float32."""
    column = tl.arange(0, COMPETITORS * BLOCKS)
    competitor = tl.minimum(first + column // BLOCKS, U - 1)
    unit = (tl.min(block, axis=0) + column % BLOCKS) % blocks * U + competitor  # out of range: any unit, not stored
    x_row = x_ptr + (row % rows).to(tl.int64)[:, None] * features
    weight_row = weight_ptr + unit.to(tl.int64)[None, :] * features
    h = tl.zeros((ROWS, COMPETITORS * BLOCKS), tl.float32)
    for start in tl.range(0, features, FEATURES):
        feature = start + tl.arange(0, FEATURES)
        x = tl.load(x_row + feature[None, :], mask=feature[None, :] < features, other=0.0)
        weight = tl.load(weight_row + feature[:, None], mask=feature[:, None] < features, other=0.0)
        h = tl.dot(x, weight, h, input_precision="ieee")
    if bias_ptr is not None:
        h += tl.load(bias_ptr + unit)[None, :].to(tl.float32)
    # Rounded as a linear layer rounds its output, so that backward finds the same winners in it.
    return tl.reshape(h.to(x_ptr.dtype.element_ty).to(tl.float32), (ROWS, COMPETITORS, BLOCKS))


@triton.jit
def _forward_kernel(
    x_ptr, weight_ptr, bias_ptr, seed_ptr, value_ptr, index_ptr, rows, blocks, features,
    U: tl.constexpr, COMPETITORS: tl.constexpr, ROWS: tl.constexpr, BLOCKS: tl.constexpr, FEATURES: tl.constexpr,
    SWIZZLE: tl.constexpr, NOISE: tl.constexpr, BIG: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    row_tile, block_tile = tl.swizzle2d(
        tl.program_id(0) // tl.cdiv(blocks, BLOCKS), tl.program_id(0) % tl.cdiv(blocks, BLOCKS),
        tl.cdiv(rows, ROWS), tl.cdiv(blocks, BLOCKS), SWIZZLE,
    )  # fmt: skip
    row = row_tile * ROWS + tl.arange(0, ROWS)
    block = block_tile * BLOCKS + tl.arange(0, BLOCKS)
    best = tl.full((ROWS, BLOCKS), -float("inf"), tl.float32)
    value = tl.zeros((ROWS, BLOCKS), tl.float32)
    winner = tl.zeros((ROWS, BLOCKS), tl.int32)
    for first in tl.range(0, U, COMPETITORS):
        h = _responses(
            x_ptr, weight_ptr, bias_ptr, row, block, rows, blocks, features, first,
            U, COMPETITORS, ROWS, BLOCKS, FEATURES,
        )  # fmt: skip
        z = h
        if NOISE:
            z += _noise(tl.load(seed_ptr), row, block, blocks, first, U, COMPETITORS, ROWS, BLOCKS, BIG, FAST)
        competitor = tl.arange(0, COMPETITORS)[None, :, None]
        if U % COMPETITORS != 0:
            z = tl.where(first + competitor < U, z, -float("inf"))
        top = tl.reduce(z, 1, maximum_or_nan)
        who = tl.min(tl.where(z == top[:, None, :], competitor, COMPETITORS), axis=1)
        response = tl.sum(tl.where(competitor == who[:, None, :], h, 0.0), axis=1)
        if U <= COMPETITORS:
            best, value, winner = top, response, who
        else:
            better = (top > best) | (top != top) | (first == 0)
            value = tl.where(better, response, value)
            winner = tl.where(better, first + who, winner)
            best = tl.where(better & (best == best), top, best)
    poisoned = best != best
    value = tl.where(poisoned, best, value).to(value_ptr.dtype.element_ty)
    winner = tl.where(poisoned, 0, winner).to(index_ptr.dtype.element_ty)
    place = row.to(tl.int64)[:, None] * blocks + block[None, :]
    exists = (row < rows)[:, None] & (block < blocks)[None, :]
    tl.store(value_ptr + place, value, mask=exists)
    tl.store(index_ptr + place, winner, mask=exists)


class _Tile(NamedTuple):
    """Tile of a program: competitors, rows, blocks and features at a time, and compiler options."""

    competitors: int
    rows: int
    blocks: int
    features: int
    warps: int
    stages: int


def _tile(competitors: int, rows: int, element_size: int, sampling: bool) -> _Tile:
    """Return the tile of a program, by benchmarks/NOTES.md.

    The product is 128 × 256 where all competitors fit at once, else 128 × 128; also with noise, which needs as many
    registers again.
    """
    group = competitor_group(competitors)
    if element_size > 2:
        return _Tile(group, 32, max(32 // group, 4), 32, 4, 2)
    columns = 256 if group == competitors and not sampling else 128
    height = 128 if rows > 64 else 64
    return _Tile(group, height, columns // group, 64, 8, 3 if columns == 256 else 4)


def _counts_beyond_32_bits(rows: int, units: int) -> bool:
    """Return whether the counters of the noise need 64 bits, which cost a few percent more instructions."""
    return rows * triton.cdiv(units, 4) > 2**32


@on_its_device
def launch_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, competitors: int, mode: str, seed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run the forward kernel, and return values and indices, (…, B); arguments as in `linear_winners`."""
    x, weight, bias = x.contiguous(), weight.contiguous(), None if bias is None else bias.contiguous()
    features, blocks = weight.shape[1], weight.shape[0] // competitors
    rows = x.numel() // features
    shape = (*x.shape[:-1], blocks)
    value, index = x.new_empty(shape), x.new_empty(shape, dtype=index_dtype(competitors))
    if rows:
        tile = _tile(competitors, rows, x.element_size(), mode != "argmax")
        grid = (triton.cdiv(rows, tile.rows) * triton.cdiv(blocks, tile.blocks),)
        _forward_kernel[grid](
            x, weight, bias, seed, value, index, rows, blocks, features,
            U=competitors, COMPETITORS=tile.competitors, ROWS=tile.rows, BLOCKS=tile.blocks, FEATURES=tile.features,
            SWIZZLE=8, NOISE=mode != "argmax", BIG=_counts_beyond_32_bits(rows, weight.shape[0]), FAST=fast_math(x),
            num_warps=tile.warps, num_stages=pipeline_stages(tile.stages, x), enable_fp_fusion=True,
        )  # fmt: skip
    return value, index


def _runs_fused(x: Tensor) -> bool:
    """Return whether the fused kernel runs: not for float32, where torch's product follows the setting for TF32."""
    return x.is_cuda and x.dtype in (torch.float16, torch.bfloat16)


@torch.library.custom_op("lwta::linear_winners", mutates_args=())
def linear_winners(
    x: Tensor, weight: Tensor, bias: Tensor | None, competitors: int, mode: str, seed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Compute the operation on any device; `lwta.functional.linear_winners` checks and documents the arguments."""
    if _runs_fused(x):
        return launch_forward(x, weight, bias, competitors, mode, seed)
    return winners(F.linear(x, weight, bias), competitors, mode, x.ndim - 1, seed)


@torch.library.custom_op("lwta::linear_winners_backward", mutates_args=())
def linear_winners_backward(
    grad: Tensor, x: Tensor, weight: Tensor, index: Tensor, competitors: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients with respect to x, weight and bias, from that of the values, which passes to the winners."""
    grad_h = eager.competition.winners_to_dense(grad, index, competitors).reshape(-1, weight.shape[0])
    grad_x = (grad_h @ weight).view(x.shape)
    return grad_x, grad_h.t() @ x.reshape(-1, x.shape[-1]), grad_h.sum(0)


@linear_winners.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor | None, competitors: int, mode: str, seed: Tensor | None
) -> tuple[Tensor, Tensor]:
    shape = (*x.shape[:-1], weight.shape[0] // competitors)
    return x.new_empty(shape), x.new_empty(shape, dtype=index_dtype(competitors))


@linear_winners_backward.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor, index: Tensor, competitors: int) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape), weight.new_empty(weight.shape[0])


_differentiate = transformable(linear_winners_backward)


def _setup_context(ctx, inputs, output) -> None:
    x, weight, bias, ctx.competitors, _, _ = inputs
    ctx.has_bias = bias is not None
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, weight, output[1])


def _backward(ctx, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_x, grad_weight, grad_bias = _differentiate(grad, *ctx.saved_tensors, ctx.competitors)
    return grad_x, grad_weight, grad_bias if ctx.has_bias else None, None, None, None


transformable_linear_winners = transformable(linear_winners, _backward, _setup_context)
