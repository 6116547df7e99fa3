"""Sums of products that come out the same, bit for bit, in whatever order they are added.

Addition of floating-point numbers is not associative; addition of integers is, and float64 holds integers up to 2^53.
So AᵀX is summed over integers. A number x of X, |x| ≤ 1, is rounded to a multiple of 2^-22. A number a of A is written

    a = Σ_p d_p·2^(25p - 19) with integer digits |d_p| ≤ 2^24,

from its highest place p down: round a / 2^(25p - 19) to the nearest integer, subtract, and carry the remainder down to
place p - 1. The remainder is at most half a unit of place p, which is 2^24 units of place p - 1. Digits at fixed places
are those of the reproducible sums of Demmel and Nguyen (2013). Products of such integer matrices are exact as long as
their partial sums stay within 2^53, which is checked before each product.

How many digits the columns of A need depends on the largest number in each, over all rows ever added: places whose
digits could not reach 2^-20 of that number are dropped. With place 0 in units of 2^-19, one product is enough for
columns whose largest number is 1 to 32, and two are for any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import count

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag
from typing_extensions import Self

GRID = 22
"""Bits behind the binary point to which the numbers of X are rounded."""
DIGIT = 25
"""Bits of a digit: a unit of place p + 1 is 2^DIGIT units of place p."""
POINT = 19
"""Bits behind the binary point of place 0, whose unit is 2^-POINT."""
HALF = 2.0 ** (DIGIT - 1)
"""Largest magnitude of a digit: half a unit of the place above."""
KEPT = 2.0**-20
"""Share of the largest number in a column of A below which a number is negligible."""
ROWS = 1024
"""Rows of A and X in a product."""
EXACT = 2.0**53
"""Magnitude up to which float64 holds every integer."""
CARRY = 2.0**26
"""Unit of the upper part of a sum of integers, which is held as carried·CARRY + pending."""


def _worth(place: int) -> float:
    """Worth of a unit of a place, 2^(DIGIT·place - POINT)."""
    return 2.0 ** (DIGIT * place - POINT)


def _highest_place(largest: float) -> int:
    """Lowest place (of -40 and above) from which down numbers of magnitude up to ``largest`` can be written."""
    return next(place for place in count(-40) if largest <= HALF * _worth(place))


class _Integers:
    """Exact sum of products aᵀx of matrices of integers, held as carried·CARRY + pending."""

    def __init__(self, rows: int, columns: int) -> None:
        self._carried = torch.zeros(rows, columns, dtype=torch.float64)
        self._pending = torch.zeros(rows, columns, dtype=torch.float64)
        self._bound = 0.0  # largest magnitude that pending may have

    @property
    def shape(self) -> torch.Size:
        """Shape of the sum."""
        return self._carried.shape

    def add(self, a: Tensor | Winning, x: Tensor, limit: float, rows: Tensor | None = None) -> None:
        """Add aᵀx, a product of integers in float64.

        Args:
            a: (n, D). If it is the same tensor as ``x``, only the lower triangle of xᵀx is sure to be added.
            x: (n, d).
            limit: largest magnitude that numbers in ``a`` may have.
            rows: (D,) int64, the rows of the sum to add to; None for all of them.
        """
        bound = limit * x.abs().sum(0).max().item()
        if self._bound + bound > EXACT:
            self._carry()
        if self._bound + bound > EXACT:
            half = -(-len(x) // 2)
            for x_half, a_half in zip(x.split(half), a.split(half), strict=True):
                self.add(x_half if a is x else a_half, x_half, limit, rows)
            return
        self._bound += bound
        if a is x:
            for part in column_blocks(x.shape[1]):  # the lower triangle and some more is enough
                self._pending[part.start :, part].addmm_(x[:, part.start :].T, x[:, part])
        elif isinstance(a, Winning):
            self._pending += a.product(x)
        elif rows is None:
            self._pending.addmm_(a.T, x)
        else:
            self._pending.index_add_(0, rows, a.T @ x)

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""
        self._carry()
        other._carry()
        self._carried += other._carried
        self._pending += other._pending
        self._bound += other._bound

    def total(self) -> Tensor:
        """Return the sum, (D, d) float64, rounded once."""
        self._carry()
        return self._carried * CARRY + self._pending

    def state(self) -> dict[str, Tensor]:
        """Return the sum as tensors, from which `restored` makes it again; what is added later is not in them."""
        self._carry()
        return {"carried": self._carried.clone(), "pending": self._pending.clone()}

    @classmethod
    def restored(cls, state: Mapping[str, Tensor]) -> Self:
        """Return the sum whose `state` this was."""
        found = cls(0, 0)
        found._carried, found._pending, found._bound = state["carried"].clone(), state["pending"].clone(), CARRY
        return found

    def _carry(self) -> None:
        """Move multiples of CARRY to the upper part: then 0 <= pending < CARRY, and equal sums have equal parts."""
        carry = (self._pending / CARRY).floor_()
        self._carried += carry
        self._pending -= carry.mul_(CARRY)
        self._bound = CARRY


DENSE_COMPETITORS = 4
"""Competitors in a block below which a dense product is faster than gather and scatter of the winners."""


class _Winners:
    """Places of the entries of a `Winning` matrix: which unit won each block on each image.

    Args:
        index: (n, B), number of each winner in its block, 0…U − 1.
        competitors: competitors in a block, U.
    """

    def __init__(self, index: Tensor, competitors: int) -> None:
        self.index, self.competitors = index, competitors
        self.blocks = index.shape[1]
        self.columns = self.blocks * competitors

    @cached_property
    def places(self) -> Tensor:
        """Column of each entry, (n·B,) int64."""
        return (torch.arange(self.blocks) * self.competitors + self.index).flatten()

    @cached_property
    def by_column(self) -> tuple[Tensor, Tensor, Tensor]:
        """Entries in the order of their columns, the image of each, and the first of each column."""
        short = self.columns <= torch.iinfo(torch.int16).max  # short numbers are sorted faster
        order = (self.places.short() if short else self.places).argsort(stable=True)
        counts = self.places.bincount(minlength=self.columns)
        return order, order // self.blocks, counts.cumsum(0) - counts


class Winning:
    """Matrix A (n, D) that has one entry for each image and block of U competitors, its winner's; the rest is 0.

    Args:
        values: (n, B) float64, entries of the winners.
        winners: their places.
    """

    def __init__(self, values: Tensor, winners: _Winners) -> None:
        self.values, self._winners = values, winners

    @classmethod
    def of(cls, values: Tensor, index: Tensor, competitors: int) -> Winning:
        """Return the matrix of winners (n, B), given by values and numbers in their blocks of so many competitors."""
        return cls(values.double(), _Winners(index, competitors))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def columns(self) -> int:
        """Number of columns, D."""
        return self._winners.columns

    def split(self, rows: int) -> list[Winning]:
        """Return the matrix in parts of so many rows; the last may have fewer."""
        if rows >= len(self):
            return [self]
        parts = zip(self.values.split(rows), self._winners.index.split(rows), strict=True)
        return [Winning(values, _Winners(index, self._winners.competitors)) for values, index in parts]

    def with_values(self, values: Tensor) -> Winning:
        """Return the matrix with other entries of the same winners."""
        return Winning(values, self._winners)

    def product(self, x: Tensor) -> Tensor:
        """Return Aᵀx, (D, d) float64, by gather and scatter of the winners alone, where that is faster.

        It is `lwta.kernels.winners_sum` of numbers whose sums are exact, with the winners sorted once for all of them.
        """
        if x.shape[1] == 1:
            return torch.bincount(self._winners.places, (self.values * x).flatten(), minlength=self.columns)[:, None]
        if self._winners.competitors < DENSE_COMPETITORS:
            dense = torch.zeros(len(self), self.columns, dtype=self.values.dtype)
            return dense.scatter_(1, self._winners.places.view(self.values.shape), self.values).T @ x
        order, images, starts = self._winners.by_column
        return embedding_bag(images, x, starts, per_sample_weights=self.values.flatten()[order], mode="sum")

    def largest(self) -> Tensor:
        """Return the largest magnitude in each column, (D,)."""
        found = torch.zeros(self.columns, dtype=self.values.dtype)
        return found.scatter_reduce_(0, self._winners.places, self.values.abs().flatten(), "amax")


class ExactProduct:
    """Product AᵀX, (D, d), of rows that come in any order and in any portions: the same to the last bit.

    Numbers of A are exact to 2⁻²⁰ of the largest number in their column or finer, those of X to 2⁻²³.

    Args:
        kept: share of the largest number in a column of A below which a number is negligible.

    Example:
        >>> a, x = torch.randn(100, 3), torch.rand(100, 5)
        >>> forward, backward = ExactProduct(), ExactProduct()
        >>> forward.add(a, x)
        >>> for row in reversed(range(100)):
        ...     backward.add(a[row : row + 1], x[row : row + 1])
        >>> torch.equal(forward.total(), backward.total())
        True
    """

    def __init__(self, kept: float = KEPT) -> None:
        self._kept = kept
        self._sums: dict[int, _Integers] = {}  # by place
        self._largest = torch.zeros(0, dtype=torch.float64)  # (D,) magnitudes
        self._width = 0

    def add(self, a: Tensor | Winning, x: Tensor) -> None:
        """Add aᵀx.

        Args:
            a: (n, D) finite, float32, or float64 between 2^-900 and 2^900 in magnitude. Of competitive layers the
                winners alone are enough; the sums are the same.
            x: (n, d) within [−1, 1]; rounded to `GRID` bits behind the binary point.
        """
        if not self._sums:
            self._start(a.columns if isinstance(a, Winning) else a.shape[1], x.shape[1])
        for a_rows, x_rows in zip(a.split(ROWS), x.split(ROWS), strict=True):
            integers = torch.round(x_rows.double() * 2.0**GRID)
            if isinstance(a_rows, Winning):
                self._add_winners(a_rows, integers)
            else:
                self._add(a_rows.double(), integers)

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""
        if not other._sums:
            return
        if not self._sums:
            self._start(len(other._largest), other._width)
        self._largest = torch.maximum(self._largest, other._largest)
        for place, part in other._sums.items():
            self._at(place).merge(part)

    def total(self) -> Tensor:
        """Return the product, (D, d) float64, rounded once for each place of digits.

        Raises:
            ValueError: nothing was added.
        """
        if not self._sums:
            raise ValueError("there is nothing to sum: no shard was taken in")
        total = torch.zeros(len(self._largest), self._width, dtype=torch.float64)
        for place in sorted(self._sums):
            part = self._sums[place].total() * (_worth(place) * 2.0**-GRID)
            total += part.masked_fill_(~self._counts(place)[:, None], 0)
        return total

    def state(self) -> dict[str, Tensor]:
        """Return the sums as tensors by name, from which `restore` makes them again; empty if nothing was added."""
        if not self._sums:
            return {}
        parts = {f"{place}.{name}": part for place, sums in self._sums.items() for name, part in sums.state().items()}
        return {"largest": self._largest, **parts}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over the sums whose `state` this was; nothing may have been added before."""
        if state:
            self._largest = state["largest"]
            places = {name.partition(".")[0] for name in state} - {"largest"}
            for place in places:
                parts = {part: state[f"{place}.{part}"] for part in ("carried", "pending")}
                self._sums[int(place)] = _Integers.restored(parts)
            self._width = next(iter(self._sums.values())).shape[1]

    def _start(self, rows: int, width: int) -> None:
        self._largest, self._width = torch.zeros(rows, dtype=torch.float64), width
        self._at(0)

    def _at(self, place: int) -> _Integers:
        if place not in self._sums:
            self._sums[place] = _Integers(len(self._largest), self._width)
        return self._sums[place]

    def _counts(self, place: int) -> Tensor:
        """Mask (D,) of the columns of A in which digits of this place are not negligible."""
        return (self._largest > 0) & (self._largest * self._kept < HALF * _worth(place))

    def _add_winners(self, a: Winning, x: Tensor) -> None:
        """Add aᵀx, digit by digit as `_add` does, but of all columns; `total` leaves out digits that do not count."""
        largest = a.largest()
        self._largest = torch.maximum(self._largest, largest)
        place = _highest_place(largest.max().item())
        values = a.values
        while (self._counts(place) & (largest > 0)).any():
            digits = torch.round(values / _worth(place))
            limit = values.abs().max().item() / _worth(place) + 1
            self._at(place).add(a.with_values(digits), x, limit)
            values = torch.add(values, digits, alpha=-_worth(place))
            place -= 1

    def _add(self, a: Tensor, x: Tensor) -> None:
        largest = _largest(a)
        self._largest = torch.maximum(self._largest, largest)
        place = _highest_place(largest.max().item())
        columns, every = torch.arange(len(largest)), len(largest)
        while (wanted := self._counts(place)[columns] & (largest > 0)).any():
            if not wanted.all():
                columns, a = columns[wanted], a[:, wanted]
            digits = torch.round(a / _worth(place))
            limit = largest.max().item() / _worth(place) + 1
            self._at(place).add(digits, x, limit, columns if len(columns) < every else None)
            place -= 1
            if not self._counts(place)[columns].any():
                return
            a = torch.add(a, digits, alpha=-_worth(place + 1))
            largest = _largest(a)


class ExactGram:
    """Product XᵀX, (d, d), of rows that come in any order and in any portions: the same to the last bit.

    Example:
        >>> gram = ExactGram()
        >>> gram.add(torch.eye(2))
        >>> gram.add(torch.eye(2)[:1])
        >>> gram.total()
        tensor([[2., 0.],
                [0., 1.]], dtype=torch.float64)
    """

    def __init__(self) -> None:
        self._sum: _Integers | None = None

    def add(self, x: Tensor) -> None:
        """Add xᵀx of (n, d) numbers within [−1, 1], which are rounded to `GRID` bits behind the binary point."""
        self._sum = self._sum or _Integers(x.shape[1], x.shape[1])
        for rows in x.split(ROWS):
            integers = torch.round(rows.double() * 2.0**GRID)
            self._sum.add(integers, integers, integers.abs().max().item())

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""
        if other._sum is not None:
            self._sum = self._sum or _Integers(*other._sum.shape)
            self._sum.merge(other._sum)

    def total(self) -> Tensor:
        """Return the product, (d, d) float64, rounded once.

        Raises:
            ValueError: nothing was added.
        """
        if self._sum is None:
            raise ValueError("there is nothing to sum: no shard was taken in")
        lower = self._sum.total().tril() * 2.0 ** (-2 * GRID)
        return lower + lower.tril(-1).T

    def state(self) -> dict[str, Tensor]:
        """Return the sum as tensors by name, from which `restore` makes it again; empty if nothing was added."""
        return {} if self._sum is None else self._sum.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over the sum whose `state` this was."""
        if state:
            self._sum = _Integers.restored(state)


def column_blocks(columns: int) -> Iterator[slice]:
    """Slices of 128 columns each, by which a triangular matrix costs little more than half of a full one."""
    return (slice(start, start + 128) for start in range(0, columns, 128))


def _largest(a: Tensor) -> Tensor:
    """Largest magnitude in each column of (n, D), (D,)."""
    return a.abs().amax(0)
