"""Sums of rows by winner."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lwta.kernels import winners_sum
from lwta.kernels.operations.winners_sum import GATHER_COMPETITORS_CPU, ROWS_CPU, launch
from tests.support.kernel_cases import KERNEL_DTYPES, KERNELS, label, place_of, running
from tests.support.pairwise import examples, pairwise


class Shape(NamedTuple):
    """Sizes of the operands."""

    name: str
    images: int
    blocks: int
    competitors: int
    features: int


SHAPES = [
    Shape("U1", 3, 8, 1, 5),
    Shape("U2", 70, 12, 2, 7),
    Shape("U3", 33, 5, 3, 130),
    Shape("U8", 40, 9, 8, 20),
    Shape("U12", 64, 3, 12, 33),
    Shape("U24", 65, 4, 24, 16),
    Shape("U300", 5, 1, 300, 4),
    Shape("slices", 700, 2, 8, 9),
    Shape("one", 1, 1, 2, 1),
]
RUNS: dict[str, Callable[..., torch.Tensor]] = {**dict.fromkeys(KERNELS, launch), "operation": winners_sum}
Operands = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _operands(
    images: int, blocks: int, competitors: int, features: int, dtype: torch.dtype, device: torch.device
) -> Operands:
    value = torch.randn(images, blocks).to(device, dtype)
    index = torch.randint(0, competitors, (images, blocks)).to(
        device, torch.uint8 if competitors < 256 else torch.int64
    )
    return value, index, torch.randn(images, features).to(device, dtype)


def _definition(value: torch.Tensor, index: torch.Tensor, x: torch.Tensor, competitors: int) -> torch.Tensor:
    """Dense, in the wider of the two types."""
    dtype = torch.promote_types(value.dtype, x.dtype)
    dense = F.one_hot(index.long(), competitors).to(dtype) * value[..., None].to(dtype)
    return dense.nan_to_num(nan=0, posinf=math.inf, neginf=-math.inf).flatten(-2).t() @ x.to(dtype)


def _check(got: torch.Tensor, operands: Operands, competitors: int) -> None:
    value, index, x = (t.cpu() for t in operands)
    exact = _definition(value.double(), index, x.double(), competitors)
    eager = _definition(value.float(), index, x.float(), competitors).double()
    assert got.dtype == torch.float32
    assert got.shape == exact.shape
    terms = _definition(value.double().abs(), index, x.double().abs(), competitors)  # what rounding is relative to
    assert (got.cpu().double() - exact).norm() <= 2 * (eager - exact).norm() + 2.0**-22 * terms.norm()


@pytest.mark.parametrize(
    ("shape", "dtype", "path"),
    pairwise(SHAPES, KERNEL_DTYPES, list(RUNS)),
    ids=lambda value: value.name if isinstance(value, Shape) else label(value),
)
def test_equals_the_dense_product(shape: Shape, dtype: torch.dtype, path: str, device: torch.device) -> None:
    operands = _operands(*shape[1:], dtype, device)
    _check(RUNS[path](*operands, shape.competitors), operands, shape.competitors)


@pytest.mark.slow
@settings(max_examples=examples(25), deadline=None)
@given(
    images=st.integers(0, 80),
    blocks=st.integers(1, 9),
    competitors=st.sampled_from([2, 3, 24]),
    features=st.integers(1, 70),
    dtypes=st.sampled_from([(torch.float32, torch.float16), (torch.float16, torch.float32)]),
)
def test_any_shape_and_types(
    images: int, blocks: int, competitors: int, features: int, dtypes: tuple[torch.dtype, torch.dtype]
) -> None:
    torch.manual_seed(0)  # a failure must fail again
    for path in (KERNELS[-1], "operation"):
        value, index, x = _operands(images, blocks, competitors, features, torch.float32, place_of(path))
        operands = value.to(dtypes[0]), index, x.to(dtypes[1])
        with running(path):
            _check(RUNS[path](*operands, competitors), operands, competitors)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=label)
@pytest.mark.parametrize("competitors", [GATHER_COMPETITORS_CPU - 1, GATHER_COMPETITORS_CPU])
def test_eager_on_both_sides_of_the_rule(competitors: int, dtype: torch.dtype) -> None:
    value, index, x = _operands(ROWS_CPU + 100, 6, competitors, 20, dtype, torch.device("cpu"))
    got = winners_sum(value, index, x, competitors)
    assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    exact = _definition(value.double(), index, x.double(), competitors)
    assert (got.double() - exact).norm() <= 16 * torch.finfo(got.dtype).eps * exact.norm()


@pytest.mark.parametrize("path", RUNS)
@pytest.mark.parametrize("competitors", [4, 12])
def test_no_images_sum_to_zero(competitors: int, path: str, device: torch.device) -> None:
    got = RUNS[path](*_operands(0, 6, competitors, 3, torch.float32, device), competitors)
    assert torch.equal(got.cpu(), torch.zeros(6 * competitors, 3))


@pytest.mark.parametrize("path", RUNS)
def test_strided_operands(path: str, device: torch.device) -> None:
    value, index, x = _operands(50, 12, 8, 20, torch.float32, device)
    operands = value.t().contiguous().t()[:, ::2], index[:, ::2], x[:, 3:14]
    _check(RUNS[path](*operands, 8), operands, 8)


@pytest.mark.parametrize("path", RUNS)
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["value", "x"])
def test_what_is_not_finite_goes_where_the_dense_product_takes_it(
    where: str, odd: float, path: str, device: torch.device
) -> None:
    competitors = 8
    value, index, x = _operands(70, 6, competitors, 20, torch.float32, device)
    (value if where == "value" else x)[37, 2] = odd
    zeros = torch.zeros(70, 6, competitors, device=device)
    dense = zeros.scatter(-1, index.long()[..., None], value[..., None]).flatten(-2)
    expected = dense.t() @ x
    got = RUNS[path](value, index, x, competitors)
    assert not expected.isfinite().all()
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("path", RUNS)
def test_repeats_bit_for_bit(path: str, device: torch.device) -> None:
    operands = _operands(900, 6, 8, 33, torch.float32, device)
    assert torch.equal(RUNS[path](*operands, 8), RUNS[path](*operands, 8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=label)
def test_opcheck(dtype: torch.dtype) -> None:
    operands = _operands(5, 6, 4, 3, dtype, torch.device("cpu"))
    result = torch.library.opcheck(torch.ops.lwta.winners_sum.default, (*operands, 4))
    assert set(result.values()) == {"SUCCESS"}


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=label)
@pytest.mark.parametrize("competitors", [2, 8, 12, 24])
def test_large_on_a_gpu(competitors: int, dtype: torch.dtype) -> None:
    operands = _operands(20_000, 768 // competitors, competitors, 512, dtype, torch.device("cuda"))
    got = winners_sum(*operands, competitors)
    _check(got, operands, competitors)
    assert torch.equal(got, winners_sum(*operands, competitors))
