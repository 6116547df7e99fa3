"""Index arithmetic beyond 2³¹ elements, without the memory for so many."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from lwta.kernels.triton_parts.blocks import Layout, gumbel_noise, tile
from tests.support.definitions import philox_numpy


@triton.jit(do_not_specialize=["inner_multiples"])
def _offsets_kernel(
    out_ptr, program, instances, inner_multiples,
    INNER_MULTIPLE: tl.constexpr, SPAN: tl.constexpr, WIDTH: tl.constexpr, INSTANCES: tl.constexpr,
    CONTIGUOUS: tl.constexpr, BIG: tl.constexpr,
):  # fmt: skip
    _, offsets, _ = tile(program, instances, inner_multiples, INNER_MULTIPLE, SPAN, WIDTH, INSTANCES, CONTIGUOUS, BIG)
    if not CONTIGUOUS:
        offsets = tl.trans(offsets)
    place = tl.arange(0, INSTANCES)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    tl.store(out_ptr + place, offsets.to(tl.int64))


@triton.jit(do_not_specialize=["inner_multiples"])
def _noise_kernel(
    out_ptr, seed_ptr, program, instances, units, inner_multiples,
    INNER_MULTIPLE: tl.constexpr, SPAN: tl.constexpr, WIDTH: tl.constexpr, INSTANCES: tl.constexpr,
    CONTIGUOUS: tl.constexpr, BIG: tl.constexpr,
):  # fmt: skip
    instance, _, _ = tile(program, instances, inner_multiples, INNER_MULTIPLE, SPAN, WIDTH, INSTANCES, CONTIGUOUS, BIG)
    noise = gumbel_noise(
        tl.load(seed_ptr), instance, units, inner_multiples, INNER_MULTIPLE, SPAN, WIDTH, CONTIGUOUS, False
    )
    place = tl.arange(0, INSTANCES)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    tl.store(out_ptr + place, noise)


HUGE = [
    Layout(outer=2**24, blocks=64, competitors=8, inner=1),
    Layout(outer=2**24, blocks=64, competitors=8, inner=49),
    Layout(outer=3, blocks=2, competitors=24, inner=10**8),  # a block alone reaches over 2³¹ elements
    Layout(outer=2, blocks=64, competitors=8, inner=10**8 + 1),  # and the positions before the last spans are as many
    Layout(outer=2, blocks=1001, competitors=3, inner=10**7),  # blocks that straddle the groups of four
    Layout(outer=10**9, blocks=7, competitors=3, inner=1),
]


def _last_program(layout: Layout) -> tuple[int, dict[str, int | bool], torch.Tensor]:
    """Number of the last program, its arguments, and its instances."""
    arguments = layout.arguments()
    assert arguments["BIG"]
    last = layout.programs() - 1
    return last, arguments, torch.arange(arguments["INSTANCES"]) + last * arguments["INSTANCES"]


@pytest.mark.parametrize("layout", HUGE)
def test_offsets_of_the_last_program_of_a_huge_tensor(layout: Layout, device: torch.device) -> None:
    """Only the offsets of its last tile are computed."""
    last, arguments, instance = _last_program(layout)
    out = torch.empty(arguments["INSTANCES"], arguments["WIDTH"], dtype=torch.int64, device=device)
    names = {"units", "U"}
    _offsets_kernel[(1,)](out, last, **{name: value for name, value in arguments.items() if name not in names})
    start = instance // layout.inner * (layout.span * layout.inner) + instance % layout.inner
    expected = start[:, None] + torch.arange(layout.span) * layout.inner
    assert torch.equal(out.cpu()[:, : layout.span], expected)
    assert expected.max() >= 2**32


@pytest.mark.parametrize("layout", HUGE)
def test_noise_of_the_last_program_of_a_huge_tensor(layout: Layout, device: torch.device) -> None:
    last, arguments, instance = _last_program(layout)
    out = torch.empty(arguments["INSTANCES"], arguments["WIDTH"], device=device)
    seed = torch.tensor(12345, device=device)
    _noise_kernel[(1,)](out, seed, last, **{name: value for name, value in arguments.items() if name != "U"})
    exists, spans = instance < layout.instances, layout.units // layout.span
    row = instance // (layout.inner * spans) * layout.inner + instance % layout.inner
    unit = (instance // layout.inner % spans * layout.span)[:, None] + torch.arange(layout.span)
    counter = row[:, None] * -(-layout.units // 4) + unit // 4
    bits = np.take_along_axis(philox_numpy(12345, counter.numpy()), (unit % 4).numpy()[..., None], -1)[..., 0]
    v = torch.from_numpy(bits.astype(np.float64)) * 2.0**-32 + 2.0**-33
    expected = -torch.log(-torch.log1p(-v.clamp(max=1 - 2.0**-24)))
    torch.testing.assert_close(out.cpu()[exists, : layout.span].double(), expected[exists], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("layout", "big"),
    [
        (Layout(outer=2**20, blocks=64, competitors=8, inner=1), False),
        (Layout(outer=2**22, blocks=64, competitors=8, inner=1), True),
        (Layout(outer=2**22, blocks=32, competitors=12, inner=1), True),  # 2³¹ only with its padding
    ],
)
def test_wide_indices_only_where_needed(layout: Layout, big: bool) -> None:
    assert layout.arguments()["BIG"] is big
