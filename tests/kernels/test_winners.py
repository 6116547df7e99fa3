"""Compact competition: value and index of each winner."""

import math

import pytest
import torch
from cases import CASES, interpretable_dtypes, make_input
from definitions import margins, scores

from lwta.kernels import index_dtype, winners
from lwta.kernels.operations.lwta import launch_forward as launch_dense
from lwta.kernels.operations.winners import launch_forward

SEED = 77


def _check(values: torch.Tensor, indices: torch.Tensor, x: torch.Tensor, competitors: int, mode: str, dim: int) -> None:
    positions = x.movedim(dim, -1).shape[:-1]
    blocks = x.shape[dim] // competitors
    assert values.shape == indices.shape == (*positions, blocks)
    assert values.dtype == x.dtype
    assert indices.dtype == index_dtype(competitors)
    if not x.numel():
        return
    h = x.cpu().movedim(dim, -1).unflatten(-1, (blocks, competitors))
    z = scores(x, competitors, dim, None if mode == "argmax" else SEED).view(h.shape)
    margin = margins(z)
    clear = (margin > 1e-5) | ((margin == 0) & (mode == "argmax"))
    index = indices.cpu().long()
    assert torch.equal(index[clear], z.argmax(-1)[clear])
    assert torch.equal(values.cpu(), h.gather(-1, index[..., None])[..., 0])


@pytest.mark.parametrize("mode", ["sample", "argmax"])
@pytest.mark.parametrize(("shape", "dim", "competitors", "memory"), CASES)
def test_kernel(
    shape: tuple[int, ...], dim: int, competitors: int, memory: str, mode: str, device: torch.device
) -> None:
    for dtype in interpretable_dtypes():
        x = make_input(shape, memory, dtype, device)
        _check(*launch_forward(x, competitors, mode, dim, torch.tensor(SEED, device=device)), x, competitors, mode, dim)


@pytest.mark.parametrize("mode", ["sample", "argmax"])
@pytest.mark.parametrize(("shape", "dim", "competitors", "memory"), CASES)
def test_eager(shape: tuple[int, ...], dim: int, competitors: int, memory: str, mode: str) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        x = make_input(shape, memory, dtype, torch.device("cpu"))
        _check(*winners(x, competitors, mode, dim, torch.tensor(SEED)), x, competitors, mode, dim)


@pytest.mark.parametrize("competitors", [2, 3, 8, 12])
def test_same_winners_as_the_dense_kernel(competitors: int, device: torch.device) -> None:
    x = torch.randn(5, 48, device=device)
    seed = torch.tensor(SEED, device=device)
    values, indices = launch_forward(x, competitors, "sample", 1, seed)
    dense = launch_dense(x, competitors, "sample", 1.0, 1, seed).unflatten(1, (-1, competitors))
    assert torch.equal(dense.gather(-1, indices.long()[..., None])[..., 0], values)


@pytest.mark.parametrize("path", ["kernel", "eager"])
def test_nan_block_has_winner_zero(path: str, device: torch.device) -> None:
    x = torch.tensor([[1.0, 2.0, math.nan, 3.0], [1.0, 2.0, -1.0, -math.inf]], device=device)
    run = launch_forward if path == "kernel" else winners
    values, indices = run(x, 2, "argmax", 1, None)
    assert indices.tolist() == [[1, 0], [1, 0]]
    assert values[0, 0] == 2.0
    assert values[0, 1].isnan()
    assert values[1].tolist() == [2.0, -1.0]


def test_gradient_goes_to_the_winners() -> None:
    x = torch.randn(2, 3, 12, requires_grad=True)
    values, indices = winners(x, 4, "sample", 2, torch.tensor(SEED))
    grad = torch.randn_like(values)
    values.backward(grad)
    expected = torch.zeros(2, 3, 3, 4).scatter(-1, indices.long()[..., None], grad[..., None]).flatten(-2)
    assert torch.equal(x.grad, expected)


def test_opcheck() -> None:
    seed = torch.tensor(SEED)
    image = torch.randn(2, 8, 3, 3, requires_grad=True)
    for arguments in ((torch.randn(3, 8, requires_grad=True), 4, "sample", 1, seed), (image, 2, "argmax", 1, None)):
        result = torch.library.opcheck(torch.ops.lwta.winners.default, arguments)
        assert set(result.values()) == {"SUCCESS"}
