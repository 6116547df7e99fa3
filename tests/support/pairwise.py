"""Fewer tests than every combination: rows in which every two values meet, or every value takes its turn.

With LWTA_EVERY_CASE in the environment, as in the nightly job, every combination is tested.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import Any

EVERY_CASE = bool(os.environ.get("LWTA_EVERY_CASE"))
"""Whether every combination is tested."""


def examples(number: int) -> int:
    """Number of random examples: a quarter of those of the nightly job, for what takes a compilation each."""
    return number if EVERY_CASE else max(number // 4, 1)


def rotated(first: Sequence[Any], *others: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Rows in which each value of the first parameter occurs once, and all combinations of the others take turns.

    For tests of which each takes a compilation, and of which the first parameter is what matters.
    """
    combinations_of_others = list(product(*others))
    if EVERY_CASE:
        return [(value, *rest) for value, rest in product(first, combinations_of_others)]
    count = len(combinations_of_others)
    step = next(step for step in range(count // 2 + 1, 2 * count + 1) if math.gcd(step, count) == 1)
    return [(value, *combinations_of_others[i * step % count]) for i, value in enumerate(first)]


def pairwise(*parameters: Sequence[Any], allowed: Callable[..., bool] = lambda *_: True) -> list[tuple[Any, ...]]:
    """Rows of one value of each parameter such that every pair of values that an allowed row holds is in one of them.

    Each row in turn is the allowed one with the most pairs that are still missing, the first of equals. Faults mostly
    need one or two values to meet, so that these rows find nearly what all combinations find.

    Args:
        parameters: the values of each.
        allowed: whether a row, given as arguments, may be used.
    """
    if EVERY_CASE:
        return [row for row in product(*parameters) if allowed(*row)]
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
