"""A launch under way: the threads of some programs in lockstep, their registers, memory and way through the blocks.

All threads execute a basic block together. Where they part, the block whose turn it is (`schedule`) runs first, under a
mask of those that are in it; they are together again as soon as all have reached one block. A barrier holds a program's
threads until all of them that have not ended wait at one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptx.accumulators import Accumulators
from ptx.counting import Counts
from ptx.errors import PtxError
from ptx.global_memory import GlobalMemory
from ptx.groups import Groups
from ptx.numbers import Array, noise_of
from ptx.program import Jump, Mask, Program
from ptx.shared_memory import SharedMemory
from ptx.trace import Event, Passed

WARP = 32


@dataclass(frozen=True)
class Options:
    """What an execution checks and counts besides its results."""

    checked: bool = True
    """Whether races and reads of unwritten shared memory are looked for."""
    counted: bool = False
    """Whether memory transactions are counted."""
    approximate: bool = False
    """Whether approximate instructions are as wrong as NVIDIA documents that they may be; else they are exact."""
    trace: list[Event] | None = None
    """Where uses of shared memory are noted, and what orders them, if that is asked for."""


class Machine:
    """Threads, registers and memory of consecutive programs of a grid.

    Args:
        program: kernel that they execute.
        memory: global memory.
        grid: number of programs along each axis.
        numbers: numbers of the programs in the grid.
        shared: bytes of shared memory of a program.
        parameters: arguments of the kernel, as bits.
        options: what is checked.
        counts: what is counted is added there.
    """

    def __init__(
        self,
        program: Program,
        memory: GlobalMemory,
        grid: tuple[int, int, int],
        numbers: Sequence[int],
        shared: int,
        parameters: Sequence[Array],
        options: Options,
        counts: Counts,
    ) -> None:
        self.program, self.memory, self.parameters = program, memory, parameters
        self.options, self.counts = options, counts
        self.per_program = program.entry.threads
        self.threads = len(numbers) * self.per_program
        thread = np.arange(self.threads)
        self.number = np.repeat(np.asarray(numbers, np.int32), self.per_program)
        self.warp = (thread % self.per_program // WARP).astype(np.int16)
        self.everyone = np.ones(self.threads, bool)
        self.shared = SharedMemory(len(numbers), shared, options.checked, program.shared_grain, options.trace)
        self.shared_start = thread // self.per_program * self.shared.size
        self.interval = np.zeros(self.threads, np.int32)
        """Number of barriers that each thread has passed."""
        self.registers: list[Array] = [np.zeros((), dtype)[()] for dtype in program.entry.registers.values()]
        self.special = self._special(grid)
        self.copies: Groups[Any] = Groups(self.threads)
        """Asynchronous copies under way: `ptx.instructions.copies`."""
        self.products: Groups[Any] = Groups(self.threads // (4 * WARP))
        """Asynchronous products under way, by warp group: `ptx.instructions.wgmma`."""
        self.accumulators: dict[tuple[int, ...], Accumulators] = {}
        """Registers that products are writing, by their numbers."""
        self.fenced: list[Any] = []
        """Registers as they were at the last fence that orders them for products; none before the first."""
        self.mask: Mask = None
        """Threads that execute the present block; None for all."""

    def _special(self, grid: tuple[int, int, int]) -> dict[str, Array]:
        """Return the registers that the hardware sets."""
        thread = (np.arange(self.threads) % self.per_program).astype(np.uint32)
        zero = np.uint32(0)
        x, y = np.uint32(grid[0]), np.uint32(grid[1])
        number = self.number.astype(np.uint32)
        return {
            "%tid.x": thread, "%tid.y": zero, "%tid.z": zero,
            "%laneid": thread % WARP, "%warpid": thread // WARP,
            "%ctaid.x": number % x, "%ctaid.y": number // x % y, "%ctaid.z": number // (x * y),
            "%nctaid.x": x, "%nctaid.y": y, "%nctaid.z": np.uint32(grid[2]),
            "%ntid.x": np.uint32(self.per_program), "%ntid.y": np.uint32(1), "%ntid.z": np.uint32(1),
        }  # fmt: skip

    def approximately(self, exact: NDArray[np.float64], relative: float = 0.0, absolute: float = 0.0) -> Array:
        """Return a result as float32, off by up to the documented error if that is asked for, the same for the same."""
        if self.options.approximate:
            exact = exact + noise_of(exact) * np.maximum(np.abs(exact) * relative, absolute)
        return np.asarray(exact).astype(np.float32)

    def each(self, x: Array) -> NDArray[Any]:
        """Return a number for each thread."""
        x = np.asarray(x)
        return x if x.shape else np.broadcast_to(x, (self.threads,))

    def by_warp(self, x: Array) -> NDArray[Any]:
        """Return the numbers of each warp's threads, (warps, 32)."""
        return self.each(x).reshape(-1, WARP)

    def active(self, mask: Mask) -> NDArray[np.bool_]:
        """Return which threads a mask means; no mask means all."""
        return self.everyone if mask is None else self.each(mask)

    def whole_warps(self, mask: Mask, where: object) -> NDArray[np.bool_]:
        """Return which warps are active.

        Raises:
            PtxError: part of a warp is, at an instruction that a warp executes together.
        """
        lanes = self.by_warp(self.active(mask))
        if (lanes != lanes[:, :1]).any():
            raise PtxError(f"{where}: part of a warp takes part")
        return lanes[:, 0]

    # ---- the way through the blocks

    def run(self) -> None:
        """Execute until every thread has ended.

        Raises:
            PtxError: a fault of the program.
        """
        end = len(self.program.entry.blocks)
        block, at, waiting = 0, None, np.zeros(self.threads, bool)
        with np.errstate(all="ignore"):
            while True:
                mask = None
                if at is not None:  # threads are in several places
                    self._release(at, waiting)
                    if waiting.all() or (at[~waiting] == end).all():
                        raise PtxError(f"{self.program.entry.name}: threads wait at a barrier that others never reach")
                    turn = np.where(waiting, end + 1, self.program.ranks[at]).argmin()
                    block = int(at[turn])
                    mask = (at == block) & ~waiting
                if block == end:
                    return
                jump = self._execute(block, mask)
                if jump.barrier:
                    self._arrive(block, jump, mask, waiting, at)
                block, at = self._next(block, jump, mask, at)
                if at is not None and not waiting.any() and (at == at[0]).all():
                    block, at = int(at[0]), None

    def _execute(self, block: int, mask: Mask) -> Jump:
        steps, jump = self.program.block(block)
        self.mask = mask
        for step in steps:
            step(self, mask)
        self.counts.block(self.program, block, self.by_warp(self.active(mask)).any(1).sum())
        return jump

    def _next(self, block: int, jump: Jump, mask: Mask, at: NDArray[Any] | None) -> tuple[int, NDArray[Any] | None]:
        """Return where the threads are after a block: all in one, or each in its own."""
        if jump.target is None:
            following: Any = block + 1
        elif jump.condition is None:
            following = jump.target
        else:
            taken = self.each(self.registers[jump.condition]) ^ jump.negated
            following = np.where(taken, jump.target, block + 1)
        if mask is None and (np.ndim(following) == 0 or (following == following[0]).all()):
            return int(np.ravel(following)[0]), None
        before = np.full(self.threads, block) if at is None else at
        return block, np.where(self.active(mask), following, before)

    def _arrive(self, block: int, jump: Jump, mask: Mask, waiting: NDArray[np.bool_], at: NDArray[Any] | None) -> None:
        """Let threads wait at a barrier, unless all of them are there."""
        where = f"{self.program.entry.name}: {self.program.entry.blocks[block][-1]}"
        if jump.condition is not None:
            raise PtxError(f"{where}: a barrier under a condition")
        if mask is None or at is None:  # all are in one place
            self.interval += 1
            self._note_barrier(block, self.everyone)
            return
        here = self.by_warp(mask | (at >= len(self.program.entry.blocks)))  # threads that have ended do not count
        if (self.by_warp(mask).any(1) & ~here.all(1)).any():
            raise PtxError(f"{where}: part of a warp takes part")
        waiting |= mask

    def _release(self, at: NDArray[Any], waiting: NDArray[np.bool_]) -> None:
        """Let the programs go on of which all threads wait or have ended."""
        if waiting.any():
            ended = at >= len(self.program.entry.blocks)
            ready = (waiting | ended).reshape(-1, self.per_program).all(1)
            released = np.repeat(ready, self.per_program) & waiting
            waiting &= ~released
            self.interval[released] += 1
            for following in np.unique(at[released]):
                self._note_barrier(int(following) - 1, released & (at == following))

    def _note_barrier(self, block: int, threads: NDArray[np.bool_]) -> None:
        """Note that threads pass the barrier at the end of a block."""
        if self.options.trace is not None:
            programs = np.flatnonzero(threads.reshape(-1, self.per_program).any(1))
            self.note(Passed(self.program.entry.blocks[block][-1], programs))

    def note(self, event: Event) -> None:
        """Note what shared memory is used for, if that is asked for."""
        if self.options.trace is not None:
            self.options.trace.append(event)
