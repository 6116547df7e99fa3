"""Competition of blocks, dense in and compact out: value and index of each block's winner.

    z = h + g,   u* = argmax_u z,   value = h_{u*}
    backward   ∂L/∂h_u = ∂L/∂value if u = u*, else 0

Noise, and so winners, are the same as those of `lwta` for the same seed. There is no relaxation here: losers get their
gradient in the operations with a temperature.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lwta.kernels import eager
from lwta.kernels.transforms import transformable
from lwta.kernels.triton_parts.blocks import OPTIONS, Layout, block_winner, load_scores, prepare, tile
from lwta.kernels.triton_parts.launch import fast_math, on_its_device


@triton.jit(do_not_specialize=["inner_multiples"])
def _forward_kernel(
    x_ptr, seed_ptr, value_ptr, index_ptr, instances, units, inner_multiples,
    INNER_MULTIPLE: tl.constexpr, U: tl.constexpr, SPAN: tl.constexpr, WIDTH: tl.constexpr,
    INSTANCES: tl.constexpr, CONTIGUOUS: tl.constexpr, BIG: tl.constexpr,
    NOISE: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    instance, offsets, exists = tile(
        tl.program_id(0), instances, inner_multiples, INNER_MULTIPLE, SPAN, WIDTH, INSTANCES, CONTIGUOUS, BIG
    )
    h, z = load_scores(
        x_ptr, seed_ptr, instance, offsets, exists, units, inner_multiples,
        INNER_MULTIPLE, U, SPAN, WIDTH, CONTIGUOUS, NOISE, FAST,
    )  # fmt: skip
    best, winner = block_winner(z)
    value = tl.sum(tl.where(tl.arange(0, z.shape[1])[None, :] == winner, h, 0.0), axis=1)[:, None]
    value = tl.where(best == best, value, best)
    winner = tl.where(best == best, winner, 0)
    # (blocks, 1) as instances × blocks of a span: memory holds the blocks of an instance `inner` apart.
    GROUP: tl.constexpr = SPAN // U
    block = tl.arange(0, GROUP)[None, :]
    if CONTIGUOUS:
        place = instance[:, None] * GROUP + block
    else:
        inner = inner_multiples.to(instance.dtype) * INNER_MULTIPLE
        place = (instance // inner * (GROUP * inner) + instance % inner)[:, None] + block * inner
    exists = (instance < instances)[:, None]
    value = tl.reshape(value, (INSTANCES, GROUP)).to(value_ptr.dtype.element_ty)
    winner = tl.reshape(winner, (INSTANCES, GROUP)).to(index_ptr.dtype.element_ty)
    tl.store(value_ptr + place, value, mask=exists)
    tl.store(index_ptr + place, winner, mask=exists)


def index_dtype(competitors: int) -> torch.dtype:
    """Return the smallest unsigned integer type that holds the indices 0…U−1."""
    if competitors <= 1 << 8:
        return torch.uint8
    return torch.uint16 if competitors <= 1 << 16 else torch.uint32


def _empty(x: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Return uninitialised values and indices, (outer, blocks, inner) in the order of memory."""
    shape = (layout.outer, layout.blocks, layout.inner)
    return x.new_empty(shape), x.new_empty(shape, dtype=index_dtype(layout.competitors))


def _blocks_last(compact: Tensor, x: Tensor, dim: int) -> Tensor:
    """Return a view (…, B) of a tensor (outer, blocks, inner), with positions in the order of the axes of ``x``."""
    return compact.movedim(1, -1).reshape(*x.movedim(dim, -1).shape[:-1], compact.shape[1])


def _outputs(x: Tensor, competitors: int, dim: int) -> tuple[Tensor, Tensor]:
    """Return uninitialised values and indices, (…, B), in the memory layout of the kernel's."""
    x, layout = prepare(x, competitors, dim)
    value, index = _empty(x, layout)
    return _blocks_last(value, x, dim), _blocks_last(index, x, dim)


@on_its_device
def launch_forward(x: Tensor, competitors: int, mode: str, dim: int, seed: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run the forward kernel: values and indices, both of shape (…, B); arguments as in `eager.competition.winners`."""
    x, layout = prepare(x, competitors, dim)
    value, index = _empty(x, layout)
    if x.numel():
        _forward_kernel[(layout.programs(),)](
            x, seed, value, index, **layout.arguments(), NOISE=mode != "argmax", FAST=fast_math(x), **OPTIONS
        )
    return _blocks_last(value, x, dim), _blocks_last(index, x, dim)


@torch.library.custom_op("lwta::winners", mutates_args=())
def winners(x: Tensor, competitors: int, mode: str, dim: int, seed: Tensor | None) -> tuple[Tensor, Tensor]:
    """Compute the operation on any device; `lwta.functional.winners` checks and documents the arguments."""
    if x.is_cuda and x.dtype != torch.float64:
        return launch_forward(x, competitors, mode, dim, seed)
    x, layout = prepare(x, competitors, dim)
    value, index = _empty(x, layout)
    outputs = _blocks_last(value, x, dim), _blocks_last(index, x, dim)
    if x.dtype == torch.float64:
        for output, result in zip(outputs, eager.competition.winners(x, competitors, mode, dim, seed), strict=True):
            output.copy_(result)
    else:
        eager.cpu_tiles.winners(x, value, index, competitors, mode, dim, seed)
    return outputs


@torch.library.custom_op("lwta::winners_backward", mutates_args=())
def winners_backward(grad: Tensor, index: Tensor, competitors: int, dim: int) -> Tensor:
    """Return the gradient with respect to x: that of the values at the winners, 0 at the losers."""
    return eager.competition.winners_backward(grad, index, competitors, dim)


@winners.register_fake
def _(x: Tensor, competitors: int, mode: str, dim: int, seed: Tensor | None) -> tuple[Tensor, Tensor]:
    return _outputs(x, competitors, dim)


@winners_backward.register_fake
def _(grad: Tensor, index: Tensor, competitors: int, dim: int) -> Tensor:
    return eager.competition.winners_backward(grad, index, competitors, dim)


_differentiate = transformable(winners_backward)


def _setup_context(ctx, inputs, output) -> None:
    _, ctx.competitors, _, ctx.dim, _ = inputs
    index = output[1]
    ctx.mark_non_differentiable(index)
    ctx.save_for_backward(index)


def _backward(ctx, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    return _differentiate(grad, *ctx.saved_tensors, ctx.competitors, ctx.dim), None, None, None, None


transformable_winners = transformable(winners, _backward, _setup_context)
