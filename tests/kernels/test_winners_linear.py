"""Linear layer fed by winners."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from lwta.kernels import winners_linear
from lwta.kernels.operations.winners_linear import GATHER_ROWS_CPU, launch_expand, launch_gather
from tests.support.kernel_cases import KERNEL_DTYPES, KERNELS, label
from tests.support.pairwise import pairwise

# rows, K, U, outputs
SHAPES = [(3, 8, 1, 5), (5, 24, 2, 7), (70, 48, 8, 40), (9, 48, 3, 20), (9, 5, 5, 20), (5, 48, 12, 33), (5, 96, 24, 16)]


def _operands(
    rows: int, units: int, competitors: int, outputs: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    blocks = units // competitors
    value = torch.randn(rows, blocks).to(device, dtype)
    index = torch.randint(0, competitors, (rows, blocks)).to(device, torch.uint8)
    return value, index, torch.randn(outputs, units).to(device, dtype), torch.randn(outputs).to(device, dtype)


def _dense(value: torch.Tensor, index: torch.Tensor, competitors: int) -> torch.Tensor:
    one_hot = F.one_hot(index.long(), competitors).to(value.dtype)
    return (one_hot * value[..., None]).flatten(-2)


@pytest.mark.parametrize(
    ("shape", "launch", "dtype", "biased", "path"),
    pairwise(SHAPES, (launch_expand, launch_gather), KERNEL_DTYPES, (True, False), KERNELS),
    ids=label,
)
def test_kernels(
    shape: tuple[int, int, int, int],
    launch: Callable[..., torch.Tensor],
    dtype: torch.dtype,
    biased: bool,
    path: str,
    device: torch.device,
) -> None:
    competitors = shape[2]
    value, index, weight, bias = _operands(*shape, dtype, device)
    b = bias if biased else None
    exact = F.linear(
        _dense(value.cpu().double(), index.cpu(), competitors),
        weight.cpu().double(),
        None if b is None else b.cpu().double(),
    )
    eager = F.linear(_dense(value, index, competitors), weight, b).cpu().double()
    y = launch(value, index, weight, b, competitors)
    assert y.dtype == dtype
    tolerance = 2 * (eager - exact).norm() + torch.finfo(dtype).eps * exact.norm()
    assert (y.cpu().double() - exact).norm() <= tolerance


@pytest.mark.parametrize("rows", [0, 1, GATHER_ROWS_CPU - 1, GATHER_ROWS_CPU, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=label)
def test_eager_on_both_sides_of_the_rule(rows: int, dtype: torch.dtype) -> None:
    value, index, weight, bias = _operands(rows, 48, 8, 20, dtype, torch.device("cpu"))
    exact = F.linear(_dense(value.double(), index, 8), weight.double(), bias.double())
    y = winners_linear(value, index, weight, bias, 8)
    assert y.shape == exact.shape
    assert (y.double() - exact).norm() <= 4 * torch.finfo(dtype).eps * exact.norm()


@pytest.mark.parametrize("rows", [5, GATHER_ROWS_CPU])
def test_gradients(rows: int) -> None:
    value, index, weight, bias = _operands(rows, 24, 4, 6, torch.float64, torch.device("cpu"))
    leaves = tuple(t.requires_grad_() for t in (value, weight, bias))
    y = winners_linear(value, index, weight, bias, 4)
    grad = torch.randn_like(y)
    got = torch.autograd.grad(y, leaves, grad)
    expected = torch.autograd.grad(F.linear(_dense(value, index, 4), weight, bias), leaves, grad)
    assert all(torch.allclose(a, b) for a, b in zip(got, expected, strict=True))


def test_gradients_repeat_bit_for_bit() -> None:
    value, index, weight, bias = _operands(300, 48, 8, 20, torch.float32, torch.device("cpu"))
    leaves = tuple(t.requires_grad_() for t in (value, weight, bias))
    runs = [torch.autograd.grad(winners_linear(value, index, weight, bias, 8).square().sum(), leaves) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
