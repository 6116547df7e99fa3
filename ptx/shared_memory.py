"""Shared memory of the programs in lockstep, and the order in which warps use it.

A warp's threads run together; between warps only a barrier gives an order. Each grain of memory remembers the barrier
interval and the warp of its last write and read: a use in the same interval by another warp is a hazard, as is a read
of what nothing has written, or of what an asynchronous copy is still writing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptx.errors import PtxError

NEVER = -1
SEVERAL = -2
"""Reader of what several warps have read since the last barrier."""


class SharedMemory:
    """Bytes of shared memory, program after program.

    Args:
        programs: number of programs.
        size: bytes of one program.
        checked: whether hazards are looked for.
        grain: size in bytes of the smallest access, the unit in which use is remembered.
    """

    def __init__(self, programs: int, size: int, checked: bool = True, grain: int = 2) -> None:
        self.size = -(-size // 16) * 16
        self._bytes = np.full(programs * self.size, 0xFF, np.uint8)
        self._checked, self._grain = checked, grain
        grains = self._bytes.size // grain if checked else 0
        self._written, self._read = np.full(grains, NEVER, np.int32), np.full(grains, NEVER, np.int32)
        self._writer, self._reader = np.zeros(grains, np.int16), np.zeros(grains, np.int16)
        self._in_flight = np.zeros(grains, bool)

    def _grains(self, index: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
        """Yield the first grain of each thread's bytes, then the second, and so on; none if nothing is checked."""
        if self._checked:
            first = index // self._grain
            for grain in range(max(size // self._grain, 1)):
                yield first + grain

    def view(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the memory as an array of a type."""
        return self._bytes.view(dtype)

    def touch(
        self,
        index: NDArray[np.int64],
        size: int,
        warp: NDArray[np.int16],
        interval: NDArray[np.int32],
        write: bool,
        where: object,
    ) -> None:
        """Note that threads use ``size`` bytes each from ``index`` on.

        Args:
            index: first byte of each thread.
            size: bytes of each.
            warp: warp of each.
            interval: number of barriers that each has passed.
            write: whether they write.
            where: what to name in an error.

        Raises:
            PtxError: nothing orders this use after an earlier one.
        """
        for at in self._grains(index, size):
            self._refuse(self._in_flight[at], where, "shared memory that an asynchronous copy is writing")
            if not write:
                self._refuse(self._written[at] == NEVER, where, "shared memory that nothing has written")
            raced = (self._written[at] == interval) & (self._writer[at] != warp)
            verb = "written" if write else "read"
            self._refuse(raced, where, f"{verb} after a write of another warp with no barrier between")
            if write:
                raced = (self._read[at] == interval) & (self._reader[at] != warp)
                self._refuse(raced, where, "written after a read of another warp with no barrier between")
                self._written[at], self._writer[at] = interval, warp
            else:
                self._note_reader(at, warp, interval)

    def _note_reader(self, at: NDArray[np.int64], warp: NDArray[np.int16], interval: NDArray[np.int32]) -> None:
        shared = (self._read[at] == interval) & (self._reader[at] != warp)
        now = np.where(shared, np.int16(SEVERAL), warp)
        self._read[at], self._reader[at] = interval, now
        self._reader[at[self._reader[at] != now]] = SEVERAL  # several warps read it with this very instruction

    @staticmethod
    def _refuse(wrong: NDArray[np.bool_], where: object, what: str) -> None:
        if wrong.any():
            raise PtxError(f"{where}: {what}")

    def begin_copy(self, index: NDArray[np.int64], size: int) -> None:
        """Note that an asynchronous copy begins to write."""
        for at in self._grains(index, size):
            self._in_flight[at] = True

    def end_copy(
        self, index: NDArray[np.int64], size: int, warp: NDArray[np.int16], interval: NDArray[np.int32]
    ) -> None:
        """Note that threads have waited for an asynchronous copy: what it wrote counts as written by them now."""
        for at in self._grains(index, size):
            self._in_flight[at] = False
            self._written[at], self._writer[at] = interval, warp
