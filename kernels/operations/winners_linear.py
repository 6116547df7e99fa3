"""Linear layer on winners, of whose input only one unit in U is not 0.

    y_n = Σ_b value_b·W[n, b·U + index_b] + bias_n
    backward   ∂value_b = Σ_n G_n·W[n, b·U + index_b],   ∂W[n, unit] = Σ_rows G_n·value where the unit won

One rule chooses the algorithm, by what limits it (measurements in benchmarks/NOTES.md):

    GPU, rows > 8 or U < 16   expand: (value, index) become a dense tile in registers for the matrix units; the memory
                              traffic of the dense input is saved, its arithmetic is not
    GPU, otherwise            gather: only the winners' weights are read. A sector of memory holds 16 of them, so below
                              U = 16 every sector is read anyway
    CPU, rows ≥ 64            gather rows of Wᵀ, a U-th of the arithmetic
    CPU, otherwise            dense product: transposing W would cost more than it saves

Backward multiplies densely and needs no atomics: sums have one order, and the same input gives the same bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from lwta.kernels import eager
from lwta.kernels.transforms import transformable
from lwta.kernels.triton_parts.blocks import competitor_group
from lwta.kernels.triton_parts.launch import on_its_device

GATHER_ROWS_GPU, GATHER_COMPETITORS_GPU, GATHER_ROWS_CPU = 8, 16, 64


@triton.jit
def _expand_kernel(
    value_ptr, index_ptr, weight_ptr, bias_ptr, y_ptr, rows, blocks, outputs,
    U: tl.constexpr, COMPETITORS: tl.constexpr, ROWS: tl.constexpr, BLOCKS: tl.constexpr, OUTPUTS: tl.constexpr,
    SWIZZLE: tl.constexpr,
):  # fmt: skip
    row_tile, output_tile = tl.swizzle2d(
        tl.program_id(0) // tl.cdiv(outputs, OUTPUTS), tl.program_id(0) % tl.cdiv(outputs, OUTPUTS),
        tl.cdiv(rows, ROWS), tl.cdiv(outputs, OUTPUTS), SWIZZLE,
    )  # fmt: skip
    row = row_tile * ROWS + tl.arange(0, ROWS)
    output = output_tile * OUTPUTS + tl.arange(0, OUTPUTS)
    column = tl.arange(0, BLOCKS * COMPETITORS)
    compact_row = (row % rows).to(tl.int64)[:, None] * blocks
    weight_row = weight_ptr + (output % outputs).to(tl.int64)[None, :] * (blocks * U)
    y = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for first in tl.range(0, U, COMPETITORS):
        for start in tl.range(0, blocks, BLOCKS):
            block = start + tl.arange(0, BLOCKS)
            value = tl.load(value_ptr + compact_row + block[None, :], mask=block[None, :] < blocks, other=0.0)
            index = tl.load(index_ptr + compact_row + block[None, :], mask=block[None, :] < blocks, other=0)
            competitor = (first + tl.arange(0, COMPETITORS))[None, None, :]
            dense = tl.where(index.to(tl.int32)[:, :, None] == competitor, value[:, :, None], 0.0)
            dense = tl.reshape(dense.to(value.dtype), (ROWS, BLOCKS * COMPETITORS))
            unit_competitor = first + column % COMPETITORS
            unit = (start + column // COMPETITORS) * U + unit_competitor
            exists = (unit < blocks * U) & (unit_competitor < U)
            weight = tl.load(weight_row + unit[:, None], mask=exists[:, None], other=0.0)
            y = tl.dot(dense, weight, y, input_precision="ieee")
    if bias_ptr is not None:
        y += tl.load(bias_ptr + output, mask=output < outputs, other=0.0)[None, :].to(tl.float32)
    place = row.to(tl.int64)[:, None] * outputs + output[None, :]
    tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=(row < rows)[:, None] & (output < outputs)[None, :])


@triton.jit
def _gather_kernel(
    value_ptr, index_ptr, weight_ptr, bias_ptr, y_ptr, blocks, outputs,
    U: tl.constexpr, BLOCKS: tl.constexpr, OUTPUTS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1).to(tl.int64)
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    weight_row = weight_ptr + output.to(tl.int64)[:, None] * (blocks * U)
    y = tl.zeros((OUTPUTS, BLOCKS), tl.float32)
    for start in tl.range(0, blocks, BLOCKS):
        block = start + tl.arange(0, BLOCKS)
        value = tl.load(value_ptr + row * blocks + block, mask=block < blocks, other=0.0).to(tl.float32)
        index = tl.load(index_ptr + row * blocks + block, mask=block < blocks, other=0).to(tl.int32)
        exists = (output < outputs)[:, None] & (block < blocks)[None, :]
        weight = tl.load(weight_row + (block * U + index)[None, :], mask=exists, other=0.0)
        y += weight.to(tl.float32) * value[None, :]
    total = tl.sum(y, axis=1)
    if bias_ptr is not None:
        total += tl.load(bias_ptr + output, mask=output < outputs, other=0.0).to(tl.float32)
    tl.store(y_ptr + row * outputs + output, total.to(y_ptr.dtype.element_ty), mask=output < outputs)


@on_its_device
def launch_expand(value: Tensor, index: Tensor, weight: Tensor, bias: Tensor | None, competitors: int) -> Tensor:
    """Run the kernel for large batches; arguments as in `eager.competition.winners_linear`."""
    value, index, weight = value.contiguous(), index.contiguous(), weight.contiguous()
    bias = None if bias is None else bias.contiguous()
    blocks, outputs = value.shape[-1], weight.shape[0]
    rows = value.numel() // blocks
    y = value.new_empty((*value.shape[:-1], outputs))
    if rows:
        group = competitor_group(competitors)
        small = value.element_size() > 2
        height, width, depth = (32, 32, 32) if small else (128 if rows > 64 else 64, 128, 64)
        grid = (triton.cdiv(rows, height) * triton.cdiv(outputs, width),)
        _expand_kernel[grid](
            value, index, weight, bias, y, rows, blocks, outputs,
            U=competitors, COMPETITORS=group, ROWS=height, BLOCKS=depth // group, OUTPUTS=width, SWIZZLE=8,
            num_warps=4 if small else 8, num_stages=3, enable_fp_fusion=True,
        )  # fmt: skip
    return y


@on_its_device
def launch_gather(value: Tensor, index: Tensor, weight: Tensor, bias: Tensor | None, competitors: int) -> Tensor:
    """Run the kernel for small batches; arguments as in `eager.competition.winners_linear`."""
    value, index, weight = value.contiguous(), index.contiguous(), weight.contiguous()
    bias = None if bias is None else bias.contiguous()
    blocks, outputs = value.shape[-1], weight.shape[0]
    rows = value.numel() // blocks
    y = value.new_empty((*value.shape[:-1], outputs))
    if rows:
        _gather_kernel[(triton.cdiv(outputs, 32), rows)](
            value, index, weight, bias, y, blocks, outputs,
            U=competitors, BLOCKS=32, OUTPUTS=32, num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return y


def _gather_cpu(value: Tensor, index: Tensor, weight: Tensor, bias: Tensor | None, competitors: int) -> Tensor:
    blocks = value.shape[-1]
    unit = index.reshape(-1, blocks).to(torch.int64) + torch.arange(blocks) * competitors
    weights = value.reshape(-1, blocks)
    y = F.embedding_bag(unit, weight.t().contiguous(), per_sample_weights=weights, mode="sum")
    y = y.view(*value.shape[:-1], -1)
    return y if bias is None else y.add_(bias)


@torch.library.custom_op("lwta::winners_linear", mutates_args=())
def winners_linear(value: Tensor, index: Tensor, weight: Tensor, bias: Tensor | None, competitors: int) -> Tensor:
    """Compute the operation on any device; `lwta.functional.winners_linear` checks and documents the arguments."""
    rows = value.numel() // value.shape[-1]
    if value.is_cuda and value.dtype != torch.float64:
        gather = rows <= GATHER_ROWS_GPU and competitors >= GATHER_COMPETITORS_GPU
        return (launch_gather if gather else launch_expand)(value, index, weight, bias, competitors)
    if rows >= GATHER_ROWS_CPU and value.dtype in (torch.float32, torch.float64):
        return _gather_cpu(value, index, weight, bias, competitors)
    return eager.competition.winners_linear(value, index, weight, bias, competitors)


@torch.library.custom_op("lwta::winners_linear_backward", mutates_args=())
def winners_linear_backward(
    grad: Tensor, value: Tensor, index: Tensor, weight: Tensor, competitors: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients with respect to value, weight and bias."""
    return eager.competition.winners_linear_backward(grad, value, index, weight, competitors)


@winners_linear.register_fake
def _(value: Tensor, index: Tensor, weight: Tensor, bias: Tensor | None, competitors: int) -> Tensor:
    return value.new_empty((*value.shape[:-1], weight.shape[0]))


@winners_linear_backward.register_fake
def _(grad: Tensor, value: Tensor, index: Tensor, weight: Tensor, competitors: int) -> tuple[Tensor, Tensor, Tensor]:
    return value.new_empty(value.shape), weight.new_empty(weight.shape), weight.new_empty(weight.shape[0])


_differentiate = transformable(winners_linear_backward)


def _setup_context(ctx, inputs, output) -> None:
    value, index, weight, bias, ctx.competitors = inputs
    ctx.has_bias = bias is not None
    ctx.save_for_backward(value, index, weight)


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_value, grad_weight, grad_bias = _differentiate(grad, *ctx.saved_tensors, ctx.competitors)
    return grad_value, None, grad_weight, grad_bias if ctx.has_bias else None, None


transformable_winners_linear = transformable(winners_linear, _backward, _setup_context)
