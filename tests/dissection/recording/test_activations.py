"""Pooling, and what is kept of a layer's output."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import one_hot

from lwta import Winners
from lwta.dissection.recording.activations import (
    DenseActivations,
    WinnerActivations,
    average,
    pool_dense,
    pool_winners,
    resolve_pool,
)


def random_winners(*shape: int, competitors: int = 3) -> Winners:
    """Of the shape (n, …, B); values of both signs, some of them 0."""
    return Winners(torch.randint(-2, 3, shape).float(), torch.randint(competitors, shape).byte(), competitors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("competitors", [1, 2, 3, 8, 12, 24])
@pytest.mark.parametrize("shape", [(5, 4), (5, 7, 4), (5, 1, 4), (5, 3, 2, 4), (1, 2, 1, 1)])
@pytest.mark.parametrize("pool", ["mean", "max", "cls"])
def test_winners_are_pooled_like_the_dense_output(
    shape: tuple[int, ...], competitors: int, dtype: torch.dtype, pool: Any
) -> None:
    """Against the definition, written out in float64 over every unit."""
    values = torch.randn(shape).mul(torch.randint(0, 2, shape)).to(dtype)  # of both signs, many 0
    winners = Winners(values, torch.randint(competitors, shape).byte(), competitors)
    n, blocks, neurons = shape[0], shape[-1], shape[-1] * competitors
    values = values.double().reshape(n, -1, blocks)
    won = one_hot(winners.indices.long(), competitors).bool().reshape(n, -1, blocks, competitors)
    if pool == "cls":
        values, won = values[:, :1], won[:, :1]
    positions = torch.where(won, values[..., None], 0).reshape(n, -1, neurons)
    share = won.double().mean(1).reshape(n, neurons)
    expected = torch.where(share > 0, positions.amax(1) if pool == "max" else positions.mean(1), -torch.inf)

    activations = pool_winners(winners, pool)
    assert activations.values.dtype == torch.float32
    torch.testing.assert_close(activations.dense(absent=-torch.inf).double(), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(activations.wins(), (share > 0).sum(0))
    assert torch.equal(activations.counts, (share > 0).sum(1))
    torch.testing.assert_close(activations.positions_won(), share.sum(0), rtol=1e-6, atol=0)
    assert len(activations) == n
    assert activations.neurons == neurons
    cells = activations.cells()
    assert (cells[1:] > cells[:-1]).all()  # images in their order, units rising within


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_pooling_of_many_positions_is_accurate(pool: Any) -> None:
    winners = Winners(torch.rand(2, 56, 56, 3) + 1, torch.randint(2, (2, 56, 56, 3)).byte(), 2)
    dense = winners.to_dense().double().flatten(1, 2)
    expected = dense.mean(1) if pool == "mean" else dense.amax(1)
    torch.testing.assert_close(pool_winners(winners, pool).dense().double(), expected, rtol=1e-5, atol=0)


def test_more_competitors_than_a_byte_counts() -> None:
    indices = torch.tensor([[[299], [3]]]).to(torch.uint16)
    activations = pool_winners(Winners(torch.tensor([[[2.0], [-4.0]]]), indices, 300), "mean")
    assert activations.units.tolist() == [3, 299]
    assert activations.values.tolist() == [-2, 1]
    assert pool_winners(Winners(torch.ones(1, 1), indices[:, 0], 300), "mean").units.tolist() == [299]


@pytest.mark.parametrize("shape", [(2, 3), (2, 5, 3)])
@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_images_of_values_that_are_not_finite(shape: tuple[int, ...], pool: Any, bad: float) -> None:
    values = torch.randn(shape)
    values[(1, 0, 2) if len(shape) == 3 else (1, 2)] = bad
    activations = pool_winners(Winners(values, torch.zeros(shape, dtype=torch.uint8), 1), pool)
    hidden = pool == "max" and bad == -torch.inf and len(shape) == 3  # below all others
    assert set(activations.not_finite().tolist()) == (set() if hidden else {1})


def test_the_mean_of_draws() -> None:
    draws = [
        pool_winners(Winners(torch.tensor([[4.0, 1.0], [2.0, 8.0]]), torch.tensor(indices).byte(), 2), "mean")
        for indices in ([[0, 0], [1, 1]], [[1, 0], [1, 0]])
    ]
    mean = average(draws)
    assert isinstance(mean, WinnerActivations)
    assert mean.dense(absent=torch.inf).tolist() == [[2, 2, 1, torch.inf], [torch.inf, 2, 4, 4]]
    assert mean.shares.tolist() == [0.5, 0.5, 1, 1, 0.5, 0.5]
    assert mean.counts.tolist() == [3, 3]
    assert mean.wins().tolist() == [1, 2, 2, 1]
    assert average(draws[:1]) is draws[0]
    dense = average([DenseActivations(torch.tensor([[1.0, -2.0]])), DenseActivations(torch.tensor([[2.0, 2.0]]))])
    assert dense.dense().tolist() == [[1.5, 0]]


@pytest.mark.gpu
@pytest.mark.parametrize("pool", ["mean", "max", "cls"])
def test_on_a_gpu_pooling_is_the_same_every_time(pool: Any) -> None:
    values, indices = torch.randn(4, 197, 32, device="cuda"), torch.randint(24, (4, 197, 32), device="cuda").byte()
    found = [pool_winners(Winners(values, indices, 24), pool) for _ in range(3)]
    expected = pool_winners(Winners(values.cpu(), indices.cpu(), 24), pool)
    for activations in found:
        assert torch.equal(activations.values, found[0].values)
        assert torch.equal(activations.units, expected.units)
        torch.testing.assert_close(activations.values, expected.values, rtol=1e-5, atol=1e-6)


def test_a_winner_of_value_zero_has_won() -> None:
    activations = pool_winners(Winners(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.uint8), 2), "mean")
    assert activations.wins().tolist() == [0, 1]
    assert activations.active().tolist() == [False, True]


def test_only_wins_are_kept() -> None:
    activations = pool_winners(random_winners(10, 4, competitors=24), "mean")
    assert activations.values.shape == activations.units.shape == activations.shares.shape == (10 * 4,)


def test_ordinary_outputs() -> None:
    maps = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(pool_dense(maps, "mean").values, maps.mean((2, 3)))
    torch.testing.assert_close(pool_dense(maps, "max").values, maps.amax((2, 3)))
    tokens = torch.randn(2, 7, 3).half()
    assert torch.equal(pool_dense(tokens, "cls").values, tokens[:, 0].float())
    assert torch.equal(pool_dense(tokens[:, 0], "max").values, tokens[:, 0].float())


def test_auto_is_the_class_token_where_there_is_one() -> None:
    assert [resolve_pool("auto", ndim, True) for ndim in (2, 3, 4)] == ["mean", "cls", "mean"]
    assert resolve_pool("auto", 3, False) == "mean"


def test_bad_pools() -> None:
    with pytest.raises(ValueError, match="pool must be one of 'auto', 'mean', 'max', 'cls', got 'avg'"):
        resolve_pool("avg", 3, True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pool='cls' needs the output of tokens"):
        resolve_pool("cls", 4, True)
