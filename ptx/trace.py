"""What a launch does with shared memory, in order: for those who ask which barriers, waits and fences it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ptx.groups import Operation
from ptx.parsing import Instruction


class Started(NamedTuple):
    """Programs begin, in lockstep."""

    programs: int
    size: int
    """Bytes of shared memory of each."""


class Use(NamedTuple):
    """Threads read or write shared memory, or begin to do so asynchronously."""

    where: Instruction
    first: NDArray[np.int64]
    """First byte of each, in the memory of one program after another."""
    size: int
    """Bytes of each."""
    warp: NDArray[np.int16]
    """Warp of each, or `shared_memory.SEVERAL`."""
    write: bool


class Passed(NamedTuple):
    """Threads pass a barrier."""

    where: Instruction
    programs: NDArray[np.intp]
    """Programs, all of whose threads do, by their places in lockstep."""


class Waited(NamedTuple):
    """Threads wait for asynchronous operations."""

    where: Instruction
    active: NDArray[np.bool_]
    """Units that wait: threads for copies, warp groups for products."""
    committed: NDArray[np.int32]
    """Number of groups that each unit has committed."""
    last: int
    """Number of groups that need not have finished."""
    finished: Sequence[Operation]
    """Operations that are over now."""


class Fenced(NamedTuple):
    """Threads order their writes before asynchronous products."""

    where: Instruction


Event: TypeAlias = Started | Use | Passed | Waited | Fenced
