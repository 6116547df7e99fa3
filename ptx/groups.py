"""Asynchronous operations under way, in the groups in which threads commit them and wait for them.

Each thread, or warp group, counts its own groups: programs in lockstep need not be at one place.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Operation:
    """An operation that some units have begun; every array of it has a row for each of them."""

    units: NDArray[np.intp]
    """Units that have begun it: threads, or warp groups."""
    group: NDArray[np.int32]
    """Number of the group that each adds it to."""


Some = TypeVar("Some", bound=Operation)


def part(operation: Some, chosen: NDArray[np.bool_]) -> Some:
    """Return an operation as some of its units have begun it."""
    arrays = {field.name: getattr(operation, field.name) for field in fields(operation)}
    return replace(operation, **{k: x[chosen] for k, x in arrays.items() if isinstance(x, np.ndarray)})


class Groups(Generic[Some]):
    """Operations under way, and the groups that each unit has committed.

    Args:
        units: number of units.
    """

    def __init__(self, units: int) -> None:
        self.committed = np.zeros(units, np.int32)
        """Number of groups that each unit has committed: that of its open one."""
        self._under_way: list[Some] = []

    def add(self, operation: Some) -> None:
        """Add an operation to the open groups of its units."""
        self._under_way.append(operation)

    def commit(self, active: NDArray[np.bool_]) -> None:
        """Close the open groups of the active units."""
        self.committed += active

    def closed_before(self, active: NDArray[np.bool_], last: int) -> NDArray[np.int32]:
        """Return the number of the first group that each active unit need not have finished: all but the last few."""
        return np.where(active, self.committed - last, 0)

    def finish(self, active: NDArray[np.bool_], last: int) -> list[Some]:
        """Return the operations of all groups of the active units but the last few, which are no longer under way."""
        before = self.closed_before(active, last)
        finished, rest = [], []
        for operation in self._under_way:
            done = operation.group < before[operation.units]
            if done.any():
                finished.append(operation if done.all() else part(operation, done))
            if not done.all():
                rest.append(part(operation, ~done) if done.any() else operation)
        self._under_way = rest
        return finished
