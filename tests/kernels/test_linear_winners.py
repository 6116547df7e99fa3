"""Linear layer fused with the competition of its units."""

import math

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lwta.kernels import index_dtype, linear_winners
from lwta.kernels.operations.linear_winners import _counts_beyond_32_bits, _noise, launch_forward
from lwta.kernels.triton_parts.blocks import competitor_group
from tests.support.definitions import margins, philox_numpy, scores
from tests.support.kernel_cases import KERNEL_DTYPES, KERNELS, label
from tests.support.pairwise import examples, pairwise

SEED = 31

# rows, K, U, features: every U that matters, one block, tiles cut off on every side
SHAPES = [
    (3, 8, 1, 5),
    (5, 24, 2, 7),
    (3, 6, 2, 4),
    (70, 48, 8, 40),
    (9, 48, 3, 20),
    (9, 5, 5, 20),
    (5, 48, 12, 33),
    (3, 96, 16, 10),
    (3, 40, 20, 4),
    (5, 48, 24, 16),
    (150, 16, 4, 70),
]


def _operands(
    rows: int, units: int, features: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, weight, bias = torch.randn(rows, features), torch.randn(units, features) / features**0.5, torch.randn(units)
    return x.to(device, dtype), weight.to(device, dtype), bias.to(device, dtype)


def _check(
    value: torch.Tensor,
    index: torch.Tensor,
    operands: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None],
    competitors: int,
    mode: str,
) -> None:
    """Against the product in float64, wherever its rounding cannot change the winner."""
    h = F.linear(*(None if t is None else t.cpu().double() for t in operands))  # type: ignore[arg-type]
    z = scores(h, competitors, 1, None if mode == "argmax" else SEED)
    rounding = 4 * torch.finfo(value.dtype).eps * h.abs().max().item() + 1e-5
    clear = margins(z) > 2 * rounding
    assert index.dtype == index_dtype(competitors)
    assert torch.equal(index.cpu().long()[clear], z.argmax(-1)[clear])
    expected = h.view(z.shape).gather(-1, index.cpu().long()[..., None])[..., 0]
    assert (value.cpu().double() - expected).abs().max() <= rounding


@pytest.mark.parametrize(
    ("shape", "mode", "dtype", "biased", "path"),
    pairwise(SHAPES, ("sample", "argmax"), KERNEL_DTYPES, (True, False), KERNELS),
    ids=label,
)
def test_kernel(
    shape: tuple[int, int, int, int], mode: str, dtype: torch.dtype, biased: bool, path: str, device: torch.device
) -> None:
    rows, units, competitors, features = shape
    x, weight, bias = _operands(rows, units, features, dtype, device)
    operands = x, weight, bias if biased else None
    seed = torch.tensor(SEED, device=device)
    _check(*launch_forward(*operands, competitors, mode, seed), operands, competitors, mode)


@pytest.mark.parametrize("mode", ["sample", "argmax"])
@pytest.mark.parametrize(("rows", "units", "competitors", "features"), SHAPES)
def test_eager(rows: int, units: int, competitors: int, features: int, mode: str) -> None:
    operands = _operands(rows, units, features, torch.float32, torch.device("cpu"))
    _check(*linear_winners(*operands, competitors, mode, torch.tensor(SEED)), operands, competitors, mode)


@pytest.mark.slow
@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(1, 9),
    blocks=st.integers(1, 7),
    competitors=st.sampled_from([1, 6, 13]),
    features=st.integers(1, 40),
)
def test_kernel_on_any_shape(rows: int, blocks: int, competitors: int, features: int, device: torch.device) -> None:
    operands = _operands(rows, blocks * competitors, features, torch.float32, device)
    result = launch_forward(*operands, competitors, "sample", torch.tensor(SEED, device=device))
    _check(*result, operands, competitors, "sample")


def test_no_rows(device: torch.device) -> None:
    x, weight = torch.randn(2, 0, 4, device=device), torch.randn(8, 4, device=device)
    value, index = launch_forward(x, weight, None, 2, "argmax", None)
    assert value.shape == index.shape == (2, 0, 4)


@pytest.mark.parametrize("competitors", [2, 3, 8, 12, 24])
def test_a_response_of_minus_infinity_never_wins(competitors: int, device: torch.device) -> None:
    x, weight, bias = _operands(40, 48, 5, torch.float32, device)
    bias.view(-1, competitors)[:, : (competitors + 1) // 2] = -math.inf  # of 24, more than are compared at a time
    value, index = launch_forward(x, weight, bias, competitors, "sample", torch.tensor(SEED, device=device))
    assert (index.long() >= (competitors + 1) // 2).all()
    assert value.isfinite().all()


def test_nan_and_ties(device: torch.device) -> None:
    """Two groups of eight competitors: a NaN in either poisons the block, a tie goes to the first."""
    weight = torch.zeros(32, 2, device=device)
    weight[:, 0] = 1.0
    weight[3, 1], weight[28, 1] = math.nan, math.nan
    value, index = launch_forward(torch.tensor([[1.0, 1.0]], device=device), weight, None, 16, "argmax", None)
    assert value.isnan().all()
    assert index.tolist() == [[0, 0]]
    value, index = launch_forward(
        torch.ones(1, 2, device=device), torch.ones(32, 2, device=device), None, 16, "argmax", None
    )
    assert value.tolist() == [[2.0, 2.0]]
    assert index.tolist() == [[0, 0]]


@triton.jit
def _noise_kernel(
    out, seed, first_row, first_block, first, blocks,
    U: tl.constexpr, COMPETITORS: tl.constexpr, N: tl.constexpr, BIG: tl.constexpr,
):  # fmt: skip
    row, block = first_row + tl.arange(0, N), first_block + tl.arange(0, N)
    noise = _noise(tl.load(seed), row, block, blocks, first, U, COMPETITORS, N, N, BIG, False)
    competitor = tl.arange(0, COMPETITORS)[None, :, None]
    place = (tl.arange(0, N)[:, None, None] * N + tl.arange(0, N)[None, None, :]) * COMPETITORS + competitor
    tl.store(out + place, noise)


@pytest.mark.parametrize(("competitors", "first"), [(2, 0), (3, 0), (8, 0), (12, 8), (24, 16)])
@pytest.mark.parametrize("row", [1000, 2**20, 2**30])
def test_noise_of_any_number_of_rows_is_that_of_the_definition(
    row: int, competitors: int, first: int, device: torch.device
) -> None:
    blocks, n, group = 2048, 4, competitor_group(competitors)
    units = blocks * competitors
    out = torch.empty(n, n, group, device=device)
    big = _counts_beyond_32_bits(row + n, units)
    assert big is (row * units >= 2**34)
    seed = torch.tensor(12345, device=device)
    _noise_kernel[(1,)](out, seed, row, blocks - n, first, blocks, U=competitors, COMPETITORS=group, N=n, BIG=big)
    unit = np.arange(units - n * competitors, units)
    counter = np.arange(row, row + n)[:, None] * -(-units // 4) + unit // 4
    bits = np.take_along_axis(philox_numpy(12345, counter), (unit % 4)[None, :, None], -1)[..., 0]
    v = torch.from_numpy(bits.astype(np.float64)) * 2.0**-32 + 2.0**-33
    noise = -torch.log(-torch.log1p(-v.clamp(max=1 - 2.0**-24)))
    expected = noise.view(n, n, competitors)[..., first : first + group]
    got = out.cpu()[..., : expected.shape[-1]].double()
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_gradient_is_that_of_the_winning_units() -> None:
    x, weight, bias = (t.requires_grad_() for t in _operands(6, 24, 5, torch.float64, torch.device("cpu")))
    value, index = linear_winners(x, weight, bias, 4, "sample", torch.tensor(SEED))
    grad = torch.randn_like(value)
    got = torch.autograd.grad(value, (x, weight, bias), grad)
    chosen = F.linear(x, weight, bias).unflatten(1, (-1, 4)).gather(-1, index.long()[..., None])[..., 0]
    expected = torch.autograd.grad(chosen, (x, weight, bias), grad)
    assert all(torch.allclose(a, b) for a, b in zip(got, expected, strict=True))
