"""Sum of rows by winner: AᵀX, for the dense matrix A of winners, which is never formed.

    out[b·U + u, :] = Σ_n value[n, b]·[index[n, b] = u]·x[n, :]

In a program, (value, index) of IMAGES images become, in registers, a dense tile of BLOCKS × COMPETITORS units for the
matrix units, as in `winners_linear`; only x and the compact winners are read from memory. Images are cut into slices so
that there are programs for the whole GPU: one partial sum a slice, then the sum of these. There are no atomics, so sums
have one order. On a CPU, bags of rows by unit need a U-th of the arithmetic and are faster from U = 8 on; below, the
dense product is.

Products of float32 are 3 × TF32 (`matmul`): their error is 2⁻²² where that of float32 is 2⁻²⁴, which is less than the
error of summing a few dozen of them. 16-bit types are multiplied exactly and summed in float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from lwta.kernels import eager
from lwta.kernels.triton_parts.blocks import competitor_group
from lwta.kernels.triton_parts.launch import on_its_device, precision
from lwta.kernels.triton_parts.matmul import slices

GATHER_COMPETITORS_CPU = 8
ROWS_CPU = 2048  # rows of x that stay in a CPU's cache while they are gathered


@triton.jit
def _kernel(
    value_ptr, index_ptr, x_ptr, partial_ptr, images, blocks, features, images_per_slice,
    U: tl.constexpr, COMPETITORS: tl.constexpr, BLOCKS: tl.constexpr, IMAGES: tl.constexpr, FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    feature = tl.program_id(0) * FEATURES + tl.arange(0, FEATURES)
    groups = tl.cdiv(U, COMPETITORS)
    first = tl.program_id(1) % groups * COMPETITORS
    block = tl.program_id(1) // groups * BLOCKS + tl.arange(0, BLOCKS)
    competitor = first + tl.arange(0, COMPETITORS)
    begin = tl.program_id(2) * images_per_slice
    end = tl.minimum(begin + images_per_slice, images)
    total = tl.zeros((BLOCKS * COMPETITORS, FEATURES), tl.float32)
    for start in tl.range(begin, end, IMAGES):
        image = start + tl.arange(0, IMAGES)
        compact = image.to(tl.int64)[None, :] * blocks + block[:, None]
        exists = (image < end)[None, :] & (block < blocks)[:, None]
        value = tl.load(value_ptr + compact, mask=exists, other=0.0)
        index = tl.load(index_ptr + compact, mask=exists, other=0).to(tl.int32)
        place = image.to(tl.int64)[:, None] * features + feature[None, :]
        x = tl.load(x_ptr + place, mask=(image < end)[:, None] & (feature < features)[None, :], other=0.0)
        if value.dtype != x.dtype:
            value, x = value.to(tl.float32), x.to(tl.float32)
        dense = tl.where(index[:, None, :] == competitor[None, :, None], value[:, None, :], 0.0).to(value.dtype)
        total = tl.dot(tl.reshape(dense, (BLOCKS * COMPETITORS, IMAGES)), x, total, input_precision=PRECISION)
    units = blocks * U
    column = tl.arange(0, BLOCKS * COMPETITORS)
    unit_block = tl.program_id(1) // groups * BLOCKS + column // COMPETITORS
    unit_competitor = first + column % COMPETITORS
    unit = tl.program_id(2).to(tl.int64) * units + unit_block * U + unit_competitor
    exists = (unit_block < blocks) & (unit_competitor < U)
    tl.store(
        partial_ptr + unit[:, None] * features + feature[None, :],
        total,
        mask=exists[:, None] & (feature < features)[None, :],
    )


@on_its_device
def launch(value: Tensor, index: Tensor, x: Tensor, competitors: int) -> Tensor:
    """Run the kernel; arguments as in `eager.concepts.winners_sum`, none of them float64."""
    value, index, x = value.contiguous(), index.contiguous(), x.contiguous()
    (images, blocks), features = value.shape, x.shape[1]
    group = competitor_group(competitors)
    wide = value.dtype != x.dtype or x.element_size() > 2
    units, width, depth = (64, 64, 32) if wide else (128, 128, 64)
    tiles = triton.cdiv(features, width), triton.cdiv(blocks, units // group) * triton.cdiv(competitors, group)
    parts, images_per_part = slices(images, tiles[0] * tiles[1], depth)
    grid = (*tiles, parts)
    partial = x.new_empty((parts, blocks * competitors, features), dtype=torch.float32)
    if partial.numel():
        _kernel[grid](
            value, index, x, partial, images, blocks, features, images_per_part,
            U=competitors, COMPETITORS=group, BLOCKS=units // group, IMAGES=depth, FEATURES=width,
            PRECISION=precision(x), num_warps=4 if wide else 8, num_stages=3 if wide else 2, enable_fp_fusion=True,
        )  # fmt: skip
    return partial[0] if parts == 1 else partial.sum(0)


def _gather_cpu(value: Tensor, index: Tensor, x: Tensor, competitors: int) -> Tensor:
    """Sum the rows of each unit's wins, a portion of the rows at a time; a loser's 0 is not multiplied with x."""
    blocks = value.shape[1]
    dtype = eager.concepts.common_dtype(value, x)
    total = x.new_zeros((blocks * competitors, x.shape[1]), dtype=dtype)
    for values, indices, rows in zip(value.split(ROWS_CPU), index.split(ROWS_CPU), x.split(ROWS_CPU), strict=True):
        unit = (indices.to(torch.int64) + torch.arange(blocks) * competitors).flatten()
        order = unit.argsort(stable=True)
        wins = unit.bincount(minlength=len(total))
        weights = values.flatten()[order].to(dtype)
        total += F.embedding_bag(
            order // blocks, rows.to(dtype), wins.cumsum(0) - wins, per_sample_weights=weights, mode="sum"
        )
    return total


@torch.library.custom_op("lwta::winners_sum", mutates_args=())
def winners_sum(value: Tensor, index: Tensor, x: Tensor, competitors: int) -> Tensor:
    """Compute `eager.concepts.winners_sum` on any device: (B·U, d) float32, or float64 if any argument is.

    Args:
        value: (n, B) floating point.
        index: (n, B) integer, each below ``competitors``.
        x: (n, d) floating point.
        competitors: U.
    """
    if x.is_cuda and torch.float64 not in (x.dtype, value.dtype):
        return launch(value, index, x, competitors)
    if x.is_cpu and competitors >= GATHER_COMPETITORS_CPU and x.isfinite().all():
        return _gather_cpu(value, index, x, competitors)
    return eager.concepts.winners_sum(value, index, x, competitors)


@winners_sum.register_fake
def _(value: Tensor, index: Tensor, x: Tensor, competitors: int) -> Tensor:
    return x.new_empty((value.shape[1] * competitors, x.shape[1]), dtype=eager.concepts.common_dtype(value, x))
