"""Exchange within a warp: shuffles and reductions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptx.errors import PtxError
from ptx.machine import WARP
from ptx.parsing import Instruction
from ptx.program import Mask, Program, Step

if TYPE_CHECKING:
    from ptx.machine import Machine

_EVERY_LANE = 0xFFFFFFFF


def _sources(how: str, lane: NDArray[np.int64], by: NDArray[np.int64]) -> NDArray[np.int64]:
    return {"bfly": lane ^ by, "idx": by, "down": lane + by, "up": lane - by}[how]


def _shuffle(program: Program, instruction: Instruction) -> Step:
    """Read another lane's number; where there is no such lane, one's own."""
    _, sync, how, kind = instruction.parts
    to, source, by, clamp, members = instruction.operands
    if sync != "sync" or "|" in to:
        raise PtxError(f"unknown: {instruction}")
    write, read, read_by = program.writer(to), program.reader(source, kind), program.reader(by, "u32")
    whole = {"up": (0,)}.get(how, (31,))
    if int(clamp, 0) not in whole:
        raise PtxError(f"a shuffle in parts of a warp: {instruction}")
    read_members = program.reader(members, "u32")

    def step(machine: Machine, mask: Mask) -> None:
        machine.whole_warps(mask, instruction)
        _require_everyone(read_members(machine), instruction)
        lane = np.arange(WARP)
        from_lane = _sources(how, lane, machine.by_warp(read_by(machine)).astype(np.int64) & 31)
        from_lane = np.broadcast_to(from_lane, (machine.threads // WARP, WARP))
        from_lane = np.where((from_lane >= 0) & (from_lane < WARP), from_lane, lane)
        write(machine, np.take_along_axis(machine.by_warp(read(machine)), from_lane, 1).reshape(-1), mask)

    return step


def _require_everyone(members: Any, instruction: Instruction) -> None:
    if (np.asarray(members) != _EVERY_LANE).any():
        raise PtxError(f"an exchange among some lanes only: {instruction}")


_REDUCTIONS = {
    "min": np.min, "max": np.max, "add": np.sum,
    "or": np.bitwise_or.reduce, "and": np.bitwise_and.reduce, "xor": np.bitwise_xor.reduce,
}  # fmt: skip


def _reduce(program: Program, instruction: Instruction) -> Step:
    """Give every lane the reduction of all lanes' numbers."""
    _, _, how, kind = instruction.parts
    to, source, members = instruction.operands
    write, read, read_members = program.writer(to), program.reader(source, kind), program.reader(members, "u32")
    reduction: Any = _REDUCTIONS[how]

    def step(machine: Machine, mask: Mask) -> None:
        machine.whole_warps(mask, instruction)
        _require_everyone(read_members(machine), instruction)
        x = machine.by_warp(read(machine))
        write(machine, np.repeat(reduction(x, axis=1).astype(x.dtype), WARP), mask)

    return step


def _warp_barrier(program: Program, instruction: Instruction) -> Step:
    """Do nothing: a warp's threads are in lockstep here."""
    if instruction.opcode != "bar.warp.sync":
        raise PtxError(f"unknown: {instruction}")
    return lambda machine, mask: None


HANDLERS = {"shfl": _shuffle, "redux": _reduce, "bar": _warp_barrier}
