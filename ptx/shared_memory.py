"""Shared memory of the programs in lockstep, and the order in which warps use it.

A warp's threads run together; between warps only a barrier gives an order. Each grain of memory remembers the barrier
interval and the warp of its last write and read: a use in the same interval by another warp is a hazard, as is a read
of what nothing has written, a use of what an asynchronous copy is still writing, and a write of what an asynchronous
product is still reading. Such a product sees what was written before a fence of the writer, or of the reader once it
has passed a barrier after the write.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptx.errors import PtxError
from ptx.parsing import Instruction
from ptx.trace import Event, Started, Use

NEVER = -1
SEVERAL = -2
"""Reader of what several warps have read since the last barrier."""

WARPS = 32
"""Warps of a program at most."""


class SharedMemory:
    """Bytes of shared memory, program after program.

    Args:
        programs: number of programs.
        size: bytes of one program.
        checked: whether hazards are looked for.
        grain: size in bytes of the smallest access, the unit in which use is remembered.
        trace: list to note uses in.
    """

    def __init__(
        self, programs: int, size: int, checked: bool = True, grain: int = 2, trace: list[Event] | None = None
    ) -> None:
        self._limit, self.size = size, -(-size // 16) * 16
        self._bytes = np.full(programs * self.size, 0xFF, np.uint8)
        self._checked, self._grain, self._trace = checked, grain, trace
        self._note(Started(programs, self.size))
        grains = self._bytes.size // grain if checked else 0
        self._written, self._read = np.full(grains, NEVER, np.int32), np.full(grains, NEVER, np.int32)
        self._writer, self._reader = np.zeros(grains, np.int16), np.zeros(grains, np.int16)
        self._copied, self._multiplied = np.zeros(grains, bool), np.zeros(grains, np.int16)
        self._time, self._written_at = 0, np.zeros(grains, np.int32)
        self._fenced_at, self._fenced_in = (np.full((programs, WARPS), NEVER, np.int32) for _ in range(2))

    def _grains(self, index: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
        """Yield the first grain of each thread's bytes, then the second, and so on; none if nothing is checked."""
        if self._checked:
            first = index // self._grain
            for grain in range(max(size // self._grain, 1)):
                yield first + grain

    def view(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the memory as an array of a type."""
        return self._bytes.view(dtype)

    def require(self, first: NDArray[np.int64], size: int, multiple: int, where: object) -> None:
        """Require that bytes lie in a program's memory.

        Args:
            first: first bytes, counted from the start of the program's memory.
            size: bytes of each.
            multiple: what the first bytes must be multiples of.
            where: what to name in an error.

        Raises:
            PtxError: they do not.
        """
        outside, crooked = (first < 0) | (first > self._limit - size), first % multiple != 0
        if (outside | crooked).any():
            self._refuse(outside, where, f"outside shared memory of {self._limit} bytes")
            self._refuse(crooked, where, f"an address that is not a multiple of {multiple} bytes")

    def touch(
        self,
        index: NDArray[np.int64],
        size: int,
        warp: NDArray[np.int16],
        interval: NDArray[np.int32],
        write: bool,
        where: Instruction,
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
        self._time += 1
        self._note(Use(where, index, size, warp, write))
        for at in self._grains(index, size):
            self._refuse(self._copied[at], where, "shared memory that an asynchronous copy is writing")
            if write:
                self._refuse(self._multiplied[at] > 0, where, "shared memory that an asynchronous product is reading")
            else:
                self._refuse(self._written[at] == NEVER, where, "shared memory that nothing has written")
            raced = (self._written[at] == interval) & (self._writer[at] != warp)
            verb = "written" if write else "read"
            self._refuse(raced, where, f"{verb} after a write of another warp with no barrier between")
            if write:
                raced = (self._read[at] == interval) & (self._reader[at] != warp)
                self._refuse(raced, where, "written after a read of another warp with no barrier between")
                self._note_writer(at, warp, interval)
            else:
                self._note_reader(at, warp, interval)

    def _note_writer(self, at: NDArray[np.int64], warp: NDArray[np.int16], interval: NDArray[np.int32]) -> None:
        self._written[at], self._writer[at], self._written_at[at] = interval, warp, self._time

    def _note_reader(self, at: NDArray[np.int64], warp: NDArray[np.int16], interval: NDArray[np.int32]) -> None:
        shared = (self._read[at] == interval) & (self._reader[at] != warp)
        now = np.where(shared, np.int16(SEVERAL), warp)
        self._read[at], self._reader[at] = interval, now
        self._reader[at[self._reader[at] != now]] = SEVERAL  # several warps read it with this very instruction

    def _note(self, event: Event) -> None:
        if self._trace is not None:
            self._trace.append(event)

    @staticmethod
    def _refuse(wrong: NDArray[np.bool_], where: object, what: str) -> None:
        if wrong.any():
            raise PtxError(f"{where}: {what}")

    def begin_copy(self, index: NDArray[np.int64], size: int) -> None:
        """Note that an asynchronous copy begins to write."""
        for at in self._grains(index, size):
            self._copied[at] = True

    def end_copy(
        self, index: NDArray[np.int64], size: int, warp: NDArray[np.int16], interval: NDArray[np.int32]
    ) -> None:
        """Note that threads have waited for an asynchronous copy: what it wrote counts as written by them now."""
        self._time += 1
        for at in self._grains(index, size):
            self._copied[at] = False
            self._note_writer(at, warp, interval)

    def fence(self, first: NDArray[np.int64], warp: NDArray[np.int16], interval: NDArray[np.int32]) -> None:
        """Note that threads, whose programs' memory begins at these bytes, order their writes for products."""
        self._time += 1
        if self._checked:
            self._fenced_at[first // self.size, warp] = self._time
            self._fenced_in[first // self.size, warp] = interval

    def begin_read(self, index: NDArray[np.int64], size: int, warp: NDArray[np.int16], where: object) -> None:
        """Note that an asynchronous product of four warps begins to read.

        Args:
            index: first bytes, (products, elements); a place may come several times.
            size: bytes of each.
            warp: first warp of each product.
            where: what to name in an error.

        Raises:
            PtxError: no fence orders it after what has been written.
        """
        fenced_in = self._fenced_in.reshape(-1, WARPS // 4, 4).min(2)[:, warp // 4]
        for at in self._grains(index, size):
            program = at * self._grain // self.size
            by_writer = self._fenced_at[program, self._writer[at]] > self._written_at[at]
            by_reader = fenced_in[program[:, :1], np.arange(len(warp))[:, None]] > self._written[at]
            self._refuse(~(by_writer | by_reader), where, "shared memory that no fence orders before a product")
            np.add.at(self._multiplied, at, 1)

    def end_read(self, index: NDArray[np.int64], size: int) -> None:
        """Note that an asynchronous product has been waited for."""
        for at in self._grains(index, size):
            np.subtract.at(self._multiplied, at, 1)
