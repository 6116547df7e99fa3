"""Every two values meet, in far fewer rows than there are combinations."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pairwise import EVERY_CASE, pairwise, rotated

pytestmark = pytest.mark.skipif(EVERY_CASE, reason="every combination is tested")


def pairs(rows: list[tuple[int, ...]]) -> set[object]:
    return {pair for row in rows for pair in combinations(enumerate(row), 2)}


@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=4), forbidden=st.integers(0, 7))
def test_every_pair_of_an_allowed_row_occurs_and_no_other_row(sizes: list[int], forbidden: int) -> None:
    def allowed(*row: int) -> bool:
        return (3 * row[0] + 5 * row[-1]) % 8 != forbidden

    parameters = [range(size) for size in sizes]
    rows = pairwise(*parameters, allowed=allowed)
    assert all(allowed(*row) for row in rows)
    assert len(set(rows)) == len(rows)
    assert pairs(rows) == pairs([row for row in product(*parameters) if allowed(*row)])
    assert rows == pairwise(*parameters, allowed=allowed)


def test_there_are_hardly_more_rows_than_the_two_longest_parameters_need() -> None:
    rows = pairwise(range(23), "abc", range(4), "xyz")
    assert pairs(rows) == pairs(list(product(range(23), "abc", range(4), "xyz")))
    assert 23 * 4 <= len(rows) <= 23 * 4 + 4


@given(count=st.integers(1, 40), sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_every_combination_of_the_others_takes_its_turn(count: int, sizes: list[int]) -> None:
    others = [range(size) for size in sizes]
    rows = rotated(range(count), *others)
    assert [row[0] for row in rows] == list(range(count))
    turns = [row[1:] for row in rows]
    whole = len(list(product(*others)))
    assert all(turns.count(turn) <= -(-count // whole) for turn in turns)
    assert len(set(turns)) == min(count, whole)
