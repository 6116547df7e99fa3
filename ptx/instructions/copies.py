"""Asynchronous copies from global to shared memory, done as late as they may be: when they are waited for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ptx.errors import PtxError
from ptx.groups import Operation
from ptx.instructions.memory import load_global, shared_index, write
from ptx.parsing import Instruction
from ptx.program import Mask, Program, Step
from ptx.trace import Waited

if TYPE_CHECKING:
    from ptx.machine import Machine

_WORD = np.dtype(np.uint32)


@dataclass(frozen=True)
class Copy(Operation):
    """A copy under way; its units are threads."""

    index: NDArray[np.int64]
    """First byte in shared memory, of each thread."""
    words: NDArray[np.uint32]
    """What will be there, (threads, words)."""
    where: Instruction


def _copy(program: Program, instruction: Instruction) -> Step:
    """Begin a copy of 4, 8 or 16 bytes a thread, or of zeros, where the number of bytes to read is 0."""
    parts = instruction.parts[2:]
    if parts == ["commit_group"]:
        return lambda machine, mask: machine.copies.commit(machine.active(mask))
    if parts == ["wait_group"]:
        last = int(instruction.operands[0], 0)
        return lambda machine, mask: _wait(machine, machine.active(mask), last, instruction)
    if parts[0] not in ("ca", "cg") or parts[1:3] != ["shared", "global"] or len(parts) > 3:
        raise PtxError(f"unknown: {instruction}")
    to, source, size = instruction.operands[:3]
    wide = int(size, 0)
    to_address, from_address = program.address(to), program.address(source)
    read_size = program.reader(instruction.operands[3] if len(instruction.operands) > 3 else size, "u32")

    def step(machine: Machine, mask: Mask) -> None:
        active = machine.active(mask)
        index = shared_index(machine, to_address(machine), wide, active, instruction)
        machine.shared.touch(index, wide, machine.warp[active], machine.interval[active], True, instruction)
        machine.shared.begin_copy(index, wide)
        machine.counts.banks("store", index, wide, active)
        read = machine.each(read_size(machine))
        if not np.isin(read[active], (0, wide)).all():
            raise PtxError(f"a copy of part of {wide} bytes: {instruction}")
        words = load_global(machine, from_address(machine), _WORD, wide // 4, active & (read > 0), instruction)
        threads = np.flatnonzero(active)
        group = machine.copies.committed[threads]
        machine.copies.add(Copy(threads, group, index, np.stack(words, 1)[threads], instruction))

    return step


def _wait(machine: Machine, active: NDArray[np.bool_], last: int, where: Instruction) -> None:
    """Complete all groups of copies of the active threads but the last few."""
    memory = machine.shared.view(_WORD)
    finished = machine.copies.finish(active, last)
    machine.note(Waited(where, active, machine.copies.committed.copy(), last, finished))
    for copy in finished:
        count = copy.words.shape[1]
        write(memory, copy.index[:, None] // 4 + np.arange(count), copy.words, copy.where)
        machine.shared.end_copy(copy.index, 4 * count, machine.warp[copy.units], machine.interval[copy.units])


HANDLERS = {"cp": _copy}
