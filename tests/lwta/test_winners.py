"""The compact form and its index types."""

import pytest
import torch

from lwta import Winners
from lwta.kernels import index_dtype


@pytest.mark.parametrize(
    ("competitors", "dtype"),
    [(1, torch.uint8), (256, torch.uint8), (257, torch.uint16), (65536, torch.uint16), (65537, torch.uint32)],
)
def test_smallest_index_type(competitors: int, dtype: torch.dtype) -> None:
    assert index_dtype(competitors) == dtype


def test_negative_and_zero_winners_are_kept() -> None:
    winners = Winners(torch.tensor([-2.0, 0.0]), torch.tensor([1, 0], dtype=torch.uint8), 2)
    dense = winners.to_dense()
    assert dense.tolist() == [0.0, -2.0, 0.0, 0.0]
    assert winners.units().tolist() == [1, 2]
    assert Winners.from_dense(dense, winners.indices, 2).values.tolist() == [-2.0, 0.0]


def test_to_dense_is_differentiable() -> None:
    values = torch.randn(3, 2, requires_grad=True)
    Winners(values, torch.zeros(3, 2, dtype=torch.uint8), 4).to_dense().square().sum().backward()
    assert torch.allclose(values.grad, 2 * values)


def test_from_dense_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"competitors must divide the last axis of dense: got competitors=3"):
        Winners.from_dense(torch.zeros(2, 8), torch.zeros(2, 4), 3)
    with pytest.raises(ValueError, match=r"indices must have shape \(2, 4\), one per block, got \(2, 3\)"):
        Winners.from_dense(torch.zeros(2, 8), torch.zeros(2, 3), 2)
