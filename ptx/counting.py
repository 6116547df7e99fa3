"""What a launch does, counted while it runs: instructions, bytes, sectors of memory, bank conflicts, barriers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ptx.program import Program

SECTOR = 32
"""Bytes that memory moves at least."""

BANKS = 32
"""Banks of shared memory, of four bytes each: a wavefront serves one word of each."""


@dataclass
class Traffic:
    """Use of global memory in one direction."""

    asked: int = 0
    """Bytes that threads asked for."""
    sectors: int = 0
    """Sectors of 32 bytes that the warps' instructions touched."""


@dataclass
class Banks:
    """Use of shared memory in one direction."""

    asked: int = 0
    """Bytes that threads asked for."""
    wavefronts: int = 0
    """Passes that the banks need."""
    conflicts: int = 0
    """Passes beyond those needed if no two words of a bank were asked for at once."""


@dataclass
class Counts:
    """Counts of one launch or of several: warps are counted, not threads."""

    detailed: bool = False
    """Whether the transactions of memory are counted, which takes time."""
    blocks: Counter[tuple[Program, int]] = field(default_factory=Counter)
    """Executions of each basic block by a warp."""
    load: Traffic = field(default_factory=Traffic)
    store: Traffic = field(default_factory=Traffic)
    shared_load: Banks = field(default_factory=Banks)
    shared_store: Banks = field(default_factory=Banks)

    def block(self, program: Program, number: int, warps: int) -> None:
        """Count that warps executed a basic block."""
        self.blocks[program, number] += int(warps)

    def instructions(self) -> Counter[str]:
        """Return the instructions that warps executed, by full name; those whose guard was false count."""
        out: Counter[str] = Counter()
        for (program, number), warps in self.blocks.items():
            for instruction in program.entry.blocks[number]:
                out[instruction.opcode] += warps
        return out

    @property
    def barriers(self) -> int:
        """Barriers that warps arrived at."""
        return sum(n for opcode, n in self.instructions().items() if opcode.startswith(("bar.sync", "barrier.sync")))

    def transfer(self, direction: str, address: NDArray[np.uint64], size: int, active: NDArray[np.bool_]) -> None:
        """Count an instruction of global memory, ``size`` bytes of each active thread."""
        if not self.detailed:
            return
        traffic: Traffic = getattr(self, direction)
        thread = np.flatnonzero(active)
        touched = _keys(thread // 32, (address[thread] // SECTOR).astype(np.int64))
        traffic.asked += size * thread.size
        traffic.sectors += np.unique(touched).size

    def banks(self, direction: str, index: NDArray[np.int64], size: int, active: NDArray[np.bool_]) -> None:
        """Count an instruction of shared memory, ``size`` bytes from ``index`` on of each active thread.

        A warp's accesses of 8 bytes take two passes, half a warp each, those of 16 bytes four.
        """
        if not self.detailed:
            return
        banks: Banks = getattr(self, f"shared_{direction}")
        thread = np.flatnonzero(active)
        lanes = 32 // max(size // 4, 1)
        words = index[:, None] // 4 + np.arange(max(size // 4, 1))
        distinct = np.unique(_keys((thread // lanes)[:, None], words))
        in_bank, uses = np.unique(_keys(distinct >> 40, distinct % BANKS), return_counts=True)
        groups, first = np.unique(in_bank >> 40, return_index=True)
        most = np.maximum.reduceat(uses, first) if groups.size else np.zeros(0, np.int64)
        banks.asked += size * thread.size
        banks.wavefronts += int(most.sum())
        banks.conflicts += int(most.sum()) - groups.size


def _keys(group: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one integer for a group and the lower 40 bits of a number, from which both can be read."""
    return (group << 40) | (number & ((1 << 40) - 1))
