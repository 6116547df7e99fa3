"""Sums of products that come out the same, bit for bit, in whatever order they are added."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import Self

# Floating-point addition is not associative; that of integers is. So numbers are cut into digits of SLICE bits, at
# fixed places (as in the reproducible sums of Demmel and Nguyen, 2013), factors x with |x| <= 1 are rounded to GRID
# bits behind the point, and both are multiplied as integers: SLICE + GRID + log2(ROWS) <= 53 makes every sum of a
# float64 matrix product exact, in whatever order the processor adds. Beyond ROWS rows, int64 takes over, good for 2^21
# rows at worst.
SLICE = 22
GRID = 20
ROWS = 2048


def on_grid(x: Tensor) -> Tensor:
    """Float64 within [−1, 1], rounded as `ExactProduct` rounds the right factor; as the left one it has one digit."""
    return torch.round(x.double() * 2.0**GRID) * 2.0**-GRID


class ExactProduct:
    """AᵀX over rows that come in any order, in any portions: (D, d), the same to the last bit.

    Args:
        top: the numbers in A are mostly below 2^top; then one digit less has to be multiplied.

    Example:
        >>> a, x = torch.randn(100, 3), torch.rand(100, 5)
        >>> forward, backward = ExactProduct(), ExactProduct()
        >>> forward.add(a, x)
        >>> for row in reversed(range(100)):
        ...     backward.add(a[row : row + 1], x[row : row + 1])
        >>> torch.equal(forward.total(), backward.total())
        True
    """

    def __init__(self, top: int = 0) -> None:
        self._top = top
        self._sums: dict[int, Tensor] = {}  # place e of the digits to (D, d) int64, in units of 2^(e - GRID)

    def add(self, a: Tensor, x: Tensor) -> None:
        """Add aᵀx.

        Args:
            a: (n, D) finite, float32, or float64 between 2^-900 and 2^900 in magnitude. D at least 1.
            x: (n, d) within [−1, 1], rounded to GRID bits behind the point.
        """
        if not self._sums:
            self._sums[0] = torch.zeros(a.shape[1], x.shape[1], dtype=torch.int64)
        for a_rows, x_rows in zip(a.split(ROWS), x.split(ROWS), strict=True):
            self._add_digits(a_rows.double(), torch.round(x_rows.double() * 2.0**GRID))

    def _add_digits(self, rest: Tensor, x: Tensor) -> None:
        while True:
            reach = torch.linalg.vector_norm(rest, math.inf, dim=1)
            if not reach.all():  # rows without digits further down
                rest, x, reach = rest[reach > 0], x[reach > 0], reach[reach > 0]
            if not len(rest):
                return
            e = (math.frexp(reach.max().item())[1] - 1 - self._top) // SLICE * SLICE + self._top
            digits = torch.trunc(rest * 2.0**-e)
            self._accumulate(e, (digits.T @ x).long())
            rest = torch.sub(rest, digits, alpha=2.0**e)

    def merge(self, other: Self) -> None:
        """Add all that was added to ``other``."""
        for e, product in other._sums.items():
            self._accumulate(e, product)

    def total(self) -> Tensor:
        """(D, d) float64: the sum, rounded once for each place of digits, after something was added."""
        if not self._sums:
            raise ValueError("there is nothing to sum: no shard was taken in")
        parts = [self._sums[e].double() * 2.0 ** (e - GRID) for e in sorted(self._sums)]
        return torch.stack(parts).sum(0)

    def _accumulate(self, e: int, product: Tensor) -> None:
        self._sums[e] = self._sums[e] + product if e in self._sums else product
