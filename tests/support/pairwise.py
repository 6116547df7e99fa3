"""Fewer tests than every combination: rows in which every two values of two parameters meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import Any


def pairwise(*parameters: Sequence[Any], allowed: Callable[..., bool] = lambda *_: True) -> list[tuple[Any, ...]]:
    """Rows of one value of each parameter such that every pair of values that an allowed row holds is in one of them.

    Each row in turn is the allowed one with the most pairs that are still missing, the first of equals. Faults mostly
    need one or two values to meet, so that these rows find nearly what all combinations find.

    Args:
        parameters: the values of each.
        allowed: whether a row, given as arguments, may be used.
    """
    rows: dict[tuple[int, ...], frozenset[Any]] = {
        places: frozenset(combinations(enumerate(places), 2))
        for places in product(*(range(len(values)) for values in parameters))
        if allowed(*_values(parameters, places))
    }
    missing = set().union(*rows.values())
    chosen = []
    while missing:
        best = max(rows, key=lambda places: len(rows[places] & missing))
        missing -= rows.pop(best)
        chosen.append(best)
    return [_values(parameters, places) for places in sorted(chosen)]


def _values(parameters: tuple[Sequence[Any], ...], places: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(values[place] for values, place in zip(parameters, places, strict=True))
