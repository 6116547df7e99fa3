"""Compact competition: value and index of each winner."""

import math
from collections.abc import Callable

import pytest
import torch

from lwta.kernels import index_dtype, winners
from lwta.kernels.operations.lwta import launch_forward as launch_dense
from lwta.kernels.operations.winners import launch_forward
from tests.support.definitions import margins, scores
from tests.support.kernel_cases import CASES, DTYPES, KERNELS, Case, label, runs_in
from tests.support.pairwise import pairwise

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


RUNS: dict[str, Callable[..., tuple[torch.Tensor, torch.Tensor]]] = {
    **dict.fromkeys(KERNELS, launch_forward),
    "eager": winners,
}
ROWS = pairwise(
    CASES, ("sample", "argmax"), DTYPES, list(RUNS), allowed=lambda case, mode, dtype, path: runs_in(path, dtype)
)


@pytest.mark.parametrize(("case", "mode", "dtype", "path"), ROWS, ids=label)
def test_values_and_indices(case: Case, mode: str, dtype: torch.dtype, path: str, device: torch.device) -> None:
    x = case.responses(dtype, device if path in KERNELS else "cpu")
    found = RUNS[path](x, case.competitors, mode, case.dim, torch.tensor(SEED, device=x.device))
    _check(*found, x, case.competitors, mode, case.dim)


@pytest.mark.parametrize("competitors", [2, 3, 8, 12])
def test_same_winners_as_the_dense_kernel(competitors: int, device: torch.device) -> None:
    x = torch.randn(5, 48, device=device)
    seed = torch.tensor(SEED, device=device)
    values, indices = launch_forward(x, competitors, "sample", 1, seed)
    dense = launch_dense(x, competitors, "sample", 1.0, 1, seed).unflatten(1, (-1, competitors))
    assert torch.equal(dense.gather(-1, indices.long()[..., None])[..., 0], values)


@pytest.mark.parametrize("path", RUNS)
def test_nan_block_has_winner_zero(path: str, device: torch.device) -> None:
    x = torch.tensor([[1.0, 2.0, math.nan, 3.0], [1.0, 2.0, -1.0, -math.inf]], device=device)
    values, indices = RUNS[path](x, 2, "argmax", 1, None)
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
