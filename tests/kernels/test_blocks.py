"""Index arithmetic beyond 2³¹ elements, without the memory for so many."""

import pytest
import torch
import triton
import triton.language as tl

from lwta.kernels.triton_parts.blocks import Layout, tile


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


@pytest.mark.parametrize("inner", [1, 49])
def test_offsets_of_the_last_program_of_a_huge_tensor(inner: int, device: torch.device) -> None:
    """(2²⁴, 512, inner) has at least 2³³ elements; only the offsets of its last tile are computed."""
    layout = Layout(outer=2**24, blocks=64, competitors=8, inner=inner)
    arguments = layout.arguments()
    assert arguments["BIG"]
    last = layout.programs() - 1
    out = torch.empty(arguments["INSTANCES"], arguments["WIDTH"], dtype=torch.int64, device=device)
    arguments = {name: value for name, value in arguments.items() if name not in ("units", "U")}
    _offsets_kernel[(1,)](out, last, **arguments)
    instance = torch.arange(arguments["INSTANCES"]) + last * arguments["INSTANCES"]
    start = instance // inner * (8 * inner) + instance % inner
    expected = start[:, None] + torch.arange(8) * inner
    assert torch.equal(out.cpu(), expected)
    assert expected.max() >= 2**32


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
