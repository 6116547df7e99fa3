"""Blocks of competitors in memory, as kernels see them: a list of spans.

An axis of K units in B blocks of U competitors has ``outer`` positions before it in memory and ``inner`` after it (1
for a contiguous last axis and for channels_last, H·W for NCHW). It is cut into spans of consecutive units: one block,
or as many small ones as make eight units, so that loads are 128 bits wide and the four numbers of a Philox call serve
neighbours. A program works on a tile of INSTANCES × WIDTH: INSTANCES spans, in the order of memory, each with its units
padded to a power of two.

    instance i = (outer·SPANS + span)·inner + position      its unit k at offset (i//inner·SPAN + k)·inner + position
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from lwta.kernels.triton_parts import fastmath, philox

THREADS = 128
OPTIONS = {"num_warps": THREADS // 32, "enable_fp_fusion": True}
"""Compiler options of every kernel over blocks."""


class Layout(NamedTuple):
    """Layout of a tensor's competing axis in memory, and the launch parameters that follow from it."""

    outer: int
    """Number of positions before the axis."""
    blocks: int
    """Number of blocks, B."""
    competitors: int
    """Competitors in a block, U."""
    inner: int
    """Number of positions after the axis."""

    @property
    def units(self) -> int:
        """Number of units, K = B·U."""
        return self.blocks * self.competitors

    @property
    def span(self) -> int:
        """Number of units in a span."""
        small_blocks = 8 // self.competitors
        whole = self.competitors in (2, 4) and self.blocks % small_blocks == 0
        return 8 if whole else self.competitors

    @property
    def instances(self) -> int:
        """Number of spans in the whole tensor."""
        return self.outer * (self.units // self.span) * self.inner

    def arguments(self) -> dict[str, int | bool]:
        """Return the parameters that every kernel over blocks takes, by name."""
        return _arguments(self)

    def programs(self) -> int:
        """Return the number of programs to launch."""
        return triton.cdiv(self.instances, int(self.arguments()["INSTANCES"]))


@lru_cache(maxsize=1024)  # a network has few layouts, and a launch is a matter of microseconds
def _arguments(layout: Layout) -> dict[str, int | bool]:
    width = triton.next_power_of_2(layout.span)
    whole_spans = layout.inner > 1 or (width % 16 == 0 and layout.span == width // 4 * 3)  # in a thread: see `load`
    elements_per_thread = 32 if whole_spans else 16
    per_program = max(THREADS * elements_per_thread // width, 1)
    # Along positions a thread takes so many neighbours that a block's competitors stay in one thread.
    multiple = min(layout.inner & -layout.inner, max(per_program // THREADS, 1))
    return {
        "instances": layout.instances,
        "units": layout.units,
        "inner_multiples": layout.inner // multiple,
        "INNER_MULTIPLE": multiple,
        "U": layout.competitors,
        "SPAN": layout.span,
        "WIDTH": width,
        "INSTANCES": per_program,
        "CONTIGUOUS": layout.inner == 1,
        "BIG": layout.instances * width > 2**31 - 2**24,
    }


def prepare(x: Tensor, competitors: int, dim: int) -> tuple[Tensor, Layout]:
    """Return ``x`` in a layout that the kernels read in place, copied only if it has none, and that layout."""
    if x.movedim(dim, -1).is_contiguous():
        outer, inner = x.numel() // x.shape[dim], 1
    else:
        x = x.contiguous()
        outer, inner = x.shape[:dim].numel(), x.shape[dim + 1 :].numel()
    return x, Layout(outer, x.shape[dim] // competitors, competitors, inner)


def like(tensor: Tensor, x: Tensor) -> Tensor:
    """Return ``tensor`` with the memory layout of ``x``, copied only if it has another."""
    return tensor if tensor.stride() == x.stride() else torch.empty_like(x).copy_(tensor)


def competitor_group(competitors: int) -> int:
    """Return the competitors per step of a matmul kernel's loop over U: a power of two ≤ 8, which divides an even U."""
    power = competitors & -competitors if competitors % 2 == 0 else triton.next_power_of_2(competitors)
    return min(power, 8)


@triton.jit
def tile(
    program,
    instances,
    inner_multiples,
    INNER_MULTIPLE: tl.constexpr,
    SPAN: tl.constexpr,
    WIDTH: tl.constexpr,
    INSTANCES: tl.constexpr,
    CONTIGUOUS: tl.constexpr,
    BIG: tl.constexpr,
):
    """Return a program's instances (INSTANCES,), their element offsets, and a mask of those that exist.

    `load` and `store` take these. The last axis of the offsets is the one along which memory is contiguous: INSTANCES ×
    WIDTH if units are contiguous, WIDTH × INSTANCES if positions are, so that a thread holds neighbours and whole
    blocks. For contiguous spans that fill three quarters of the width, as those of 12 and 24 units do, the offsets are
    only those of the first quarter.
    """
    if BIG:
        program = program.to(tl.int64)
    instance = program * INSTANCES + tl.arange(0, INSTANCES)
    unit = tl.arange(0, WIDTH)
    if CONTIGUOUS and WIDTH % 16 == 0 and SPAN == WIDTH // 4 * 3:
        offsets = instance[:, None] * SPAN + tl.arange(0, WIDTH // 4)[None, :]
        exists = (instance < instances)[:, None]
    elif CONTIGUOUS:
        offsets = instance[:, None] * SPAN + unit[None, :]
        exists = (instance < instances)[:, None]
        if SPAN < WIDTH:
            exists = exists & (unit < SPAN)[None, :]
    else:
        inner = inner_multiples.to(instance.dtype) * INNER_MULTIPLE  # tells the compiler what divides it
        start = instance // inner * (SPAN * inner) + instance % inner
        if INNER_MULTIPLE == 1:
            start = tl.max_contiguous(start, 2)  # else Triton 3.6 distributes a warp's lanes along units, far apart
        offsets = start[None, :] + (unit * inner)[:, None]
        exists = (instance < instances)[None, :]
        if SPAN < WIDTH:
            exists = exists & (unit < SPAN)[:, None]
    return instance, offsets, exists


@triton.jit
def load(pointer, offsets, exists, WIDTH: tl.constexpr, CONTIGUOUS: tl.constexpr):
    """Load a tile, INSTANCES × WIDTH float32, with 0 where no element exists."""
    values = tl.load(pointer + offsets, mask=exists, other=0.0).to(tl.float32)
    QUARTER: tl.constexpr = offsets.shape[1]
    if CONTIGUOUS and QUARTER < WIDTH:
        # a thread holds whole spans, so that the compiler knows which of its registers are empty
        second = tl.load(pointer + offsets + QUARTER, mask=exists, other=0.0).to(tl.float32)
        third = tl.load(pointer + offsets + 2 * QUARTER, mask=exists, other=0.0).to(tl.float32)
        quarters = tl.join(tl.join(values, third), tl.join(second, tl.zeros_like(values)))
        values = tl.reshape(tl.permute(quarters, (0, 2, 3, 1)), (values.shape[0], WIDTH))
    elif not CONTIGUOUS:
        values = tl.trans(values)
    return values


@triton.jit
def store(pointer, offsets, exists, values, WIDTH: tl.constexpr, CONTIGUOUS: tl.constexpr):
    """Write an INSTANCES × WIDTH tile, rounded to the type of the tensor."""
    values = values.to(pointer.dtype.element_ty)
    QUARTER: tl.constexpr = offsets.shape[1]
    if CONTIGUOUS and QUARTER < WIDTH:
        quarters = tl.permute(tl.reshape(values, (values.shape[0], 2, 2, QUARTER)), (0, 3, 1, 2))
        first_and_third, second_and_none = tl.split(quarters)
        first, third = tl.split(first_and_third)
        second, _ = tl.split(second_and_none)
        tl.store(pointer + offsets, first, mask=exists)
        tl.store(pointer + offsets + QUARTER, second, mask=exists)
        tl.store(pointer + offsets + 2 * QUARTER, third, mask=exists)
    elif CONTIGUOUS:
        tl.store(pointer + offsets, values, mask=exists)
    else:
        tl.store(pointer + offsets, tl.trans(values), mask=exists)


@triton.jit
def gumbel_noise(
    seed,
    instance,
    units,
    inner_multiples,
    INNER_MULTIPLE: tl.constexpr,
    SPAN: tl.constexpr,
    WIDTH: tl.constexpr,
    CONTIGUOUS: tl.constexpr,
    FAST: tl.constexpr,
):
    """Return Gumbel noise for a tile, INSTANCES × WIDTH float32, by the rule of `philox` for each unit's number."""
    if SPAN % 4 == 0:
        quad = tl.arange(0, WIDTH // 4)[None, :]
        if CONTIGUOUS:  # memory order is noise order
            counter = instance[:, None] * (SPAN // 4) + quad
        else:
            inner = inner_multiples.to(instance.dtype) * INNER_MULTIPLE
            spans = units // SPAN
            span, row = instance // inner % spans, instance // (inner * spans) * inner + instance % inner
            counter = (row * (units // 4) + span * (SPAN // 4))[:, None] + quad
        bits = philox.quad_bits(seed, counter)
    else:  # blocks straddle the groups of four
        inner = inner_multiples.to(instance.dtype) * INNER_MULTIPLE
        spans = units // SPAN
        span, row = instance // inner % spans, instance // (inner * spans) * inner + instance % inner
        unit = (span * SPAN)[:, None] + tl.arange(0, WIDTH)[None, :]
        bits = philox.single_bits(seed, (row * tl.cdiv(units, 4))[:, None] + unit // 4, unit % 4)
    return philox.gumbel(bits, FAST)


@triton.jit
def by_block(tile_of_spans, U: tl.constexpr, SPAN: tl.constexpr, WIDTH: tl.constexpr):
    """Return a tile (INSTANCES, WIDTH) as (blocks, competitors), the competitors padded to a power of two."""
    if U == SPAN:
        return tile_of_spans
    else:
        return tl.reshape(tile_of_spans, (tile_of_spans.shape[0] * (SPAN // U), U))


@triton.jit
def maximum_or_nan(a, b):
    """Return the larger of two numbers elementwise; NaN where either is NaN."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def block_winner(z):
    """Return the best score of each block and the winner's index, both (blocks, 1); ties go to the lower index.

    A block with NaN has NaN for its best score, and an index beyond the last, which means no winner.
    """
    best = tl.reduce(z, 1, maximum_or_nan)[:, None]
    competitor = tl.arange(0, z.shape[1])[None, :]
    return best, tl.min(tl.where(z == best, competitor, z.shape[1]), axis=1)[:, None]


@triton.jit
def block_softmax(z, best, log2_scale, FAST: tl.constexpr):
    """Return the factors of softmax(z / τ): weights exp((z − best) / τ), and the inverse of their sum by block."""
    weights = fastmath.exp2((z - best) * log2_scale, FAST)
    return weights, 1.0 / tl.sum(weights, axis=1)[:, None]


@triton.jit
def load_scores(
    x_ptr, seed_ptr, instance, offsets, exists, units, inner_multiples,
    INNER_MULTIPLE: tl.constexpr, U: tl.constexpr, SPAN: tl.constexpr, WIDTH: tl.constexpr,
    CONTIGUOUS: tl.constexpr, NOISE: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Load responses h and return them with scores z, both by block; padding has h = 0 and z = −inf."""
    h = load(x_ptr, offsets, exists, WIDTH, CONTIGUOUS)
    z = h
    if NOISE:
        z += gumbel_noise(
            tl.load(seed_ptr), instance, units, inner_multiples, INNER_MULTIPLE, SPAN, WIDTH, CONTIGUOUS, FAST
        )
    if SPAN < WIDTH:
        z = tl.where(tl.arange(0, WIDTH)[None, :] < SPAN, z, -float("inf"))
    return by_block(h, U, SPAN, WIDTH), by_block(z, U, SPAN, WIDTH)
