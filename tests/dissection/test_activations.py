"""Pooling, and what is kept of a layer's output."""

from __future__ import annotations

import pytest
import torch

from lwta import Winners
from lwta.dissection.activations import pool_dense, pool_winners, resolve_pool


def random_winners(*shape: int, competitors: int = 3) -> Winners:
    """Of the shape (n, …, B); values of both signs, some of them 0."""
    return Winners(torch.randint(-2, 3, shape).float(), torch.randint(competitors, shape).byte(), competitors)


@pytest.mark.parametrize("shape", [(5, 4), (5, 7, 4), (5, 3, 2, 4)])
@pytest.mark.parametrize("pool", ["mean", "max", "cls"])
def test_winners_are_pooled_like_the_dense_output(shape: tuple[int, ...], pool: str) -> None:
    if pool == "cls" and len(shape) == 4:
        pytest.skip("no tokens")
    winners = random_winners(*shape)
    positions = winners.to_dense().reshape(5, -1, 12)
    units = winners.units().reshape(5, -1, 4)
    if pool == "cls":
        positions, units = positions[:, :1], units[:, :1]
    pooled = positions.amax(1) if pool == "max" else positions.mean(1)
    share = torch.nn.functional.one_hot(units, 12).sum(2).double().mean(1)  # (5, 12)

    activations = pool_winners(winners, pool)
    expected = torch.where(share > 0, pooled, -torch.inf)
    torch.testing.assert_close(activations.dense(absent=-torch.inf), expected)
    assert torch.equal(activations.wins(), (share > 0).sum(0))
    torch.testing.assert_close(activations.positions_won(), share.sum(0), rtol=1e-6, atol=0)
    assert len(activations) == 5
    assert activations.neurons == 12


def test_a_winner_of_value_zero_has_won() -> None:
    activations = pool_winners(Winners(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.uint8), 2), "mean")
    assert activations.wins().tolist() == [0, 1]
    assert activations.answered().tolist() == [False, True]


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
