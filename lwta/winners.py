"""Winners: the result of a competition in compact form, one value and one index per block."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lwta.checks import check_blocks
from lwta.kernels import index_dtype


class Winners(NamedTuple):
    """Winners of B blocks of U competitors, at any number of positions.

    Only B of the K = B·U units are active, the winners, so these tensors hold the whole output of the layer.

    Example:
        >>> w = Winners(torch.tensor([[3.0, -1.0]]), torch.tensor([[1, 0]], dtype=torch.uint8), competitors=2)
        >>> w.to_dense()
        tensor([[ 0.,  3., -1.,  0.]])
        >>> w.units()
        tensor([[1, 2]])
    """

    values: Tensor
    """Response of each winner, (…, B), possibly negative."""

    indices: Tensor
    """Index of each winner in its block, (…, B), 0…U−1, of the smallest unsigned type that fits."""

    competitors: int
    """Number of competitors in a block, U."""

    def units(self) -> Tensor:
        """Return the unit numbers of the winners, (…, B) int64, 0…K−1."""
        blocks = torch.arange(self.indices.shape[-1], device=self.indices.device)
        return blocks * self.competitors + self.indices.to(torch.int64)

    def to_dense(self) -> Tensor:
        """Return the dense output, (…, B·U): the values at the winners, 0 elsewhere; differentiable in the values."""
        shape = (*self.values.shape, self.competitors)
        dense = torch.zeros(shape, dtype=self.values.dtype, device=self.values.device)
        index = self.indices.to(torch.int64).unsqueeze(-1)
        return dense.scatter(-1, index, self.values.unsqueeze(-1)).flatten(-2)

    @classmethod
    def from_dense(cls, dense: Tensor, indices: Tensor, competitors: int) -> Winners:
        """Return the compact form of a dense output, given the index of each block's winner.

        The indices are needed: a winner whose response is negative is not the largest entry of its block, and one
        whose response is 0 cannot be told from the losers.

        Args:
            dense: (…, B·U) output of a competition.
            indices: (…, B) index of each block's winner, 0…U−1, any integer type.
            competitors: U.

        Raises:
            ValueError: U does not divide the last axis, or the shapes of ``dense`` and ``indices`` do not fit together.
        """
        if competitors < 1 or dense.ndim == 0 or dense.shape[-1] % competitors:
            raise ValueError(
                f"competitors must divide the last axis of dense: got competitors={competitors} for shape "
                f"{tuple(dense.shape)}"
            )
        blocks = dense.unflatten(-1, (dense.shape[-1] // competitors, competitors))
        if indices.shape != blocks.shape[:-1]:
            expected = tuple(blocks.shape[:-1])
            raise ValueError(f"indices must have shape {expected}, one per block, got {tuple(indices.shape)}")
        values = blocks.gather(-1, indices.to(torch.int64).unsqueeze(-1)).squeeze(-1)
        return cls(values, indices.to(index_dtype(competitors)), competitors)


def dense_as(h: Tensor, winners: Winners, dim: int | None) -> Tensor:
    """Return the output of `lwta.functional.lwta` for the responses ``h`` from their winners, with no new competition.

    Values and memory layout are the same: a block with a NaN is NaN throughout, and the output is channels last if
    ``h`` is. No gradient passes to the losers.

    Args:
        h: responses.
        winners: winners of the competition among ``h``.
        dim: axis that competed; None means 1 for 4-D ``h``, else −1.

    Raises:
        TypeError: ``h`` is not a dense tensor of floating-point numbers.
        ValueError: U does not divide the axis, or there is no such axis.
    """
    dim = check_blocks(h, winners.competitors, dim)
    parts = winners.values, winners.indices.to(torch.int64), winners.values.where(winners.values.isnan(), 0.0)
    units_last = h.movedim(dim, -1).is_contiguous()
    axis = h.ndim - 1 if units_last else dim
    values, indices, losers = (part.movedim(-1, axis).unsqueeze(axis + 1) for part in parts)
    blocks = losers.expand(*losers.shape[: axis + 1], winners.competitors, *losers.shape[axis + 2 :])
    dense = blocks.scatter(axis + 1, indices, values).flatten(axis, axis + 1)
    return dense.movedim(-1, dim) if units_last else dense
