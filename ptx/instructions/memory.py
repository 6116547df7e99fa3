"""Loads and stores: parameters, global memory, shared memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptx.errors import PtxError
from ptx.numbers import BITS, TYPES, Array
from ptx.parsing import Instruction, elements
from ptx.program import Mask, Program, Step

if TYPE_CHECKING:
    from ptx.machine import Machine


def _form(instruction: Instruction) -> str:
    """Return the memory that an instruction uses.

    Raises:
        PtxError: it has modifiers that are not known.
    """
    space = instruction.parts[1]
    rest = instruction.parts[2:-1]
    if space not in ("global", "shared") or any(part not in ("v2", "v4") for part in rest):
        raise PtxError(f"unknown: {instruction}")
    return space


def _load(program: Program, instruction: Instruction) -> Step:
    to, source = instruction.operands
    if instruction.parts[1] == "param":
        number, write = program.parameter(source), program.writer(to)
        return lambda machine, mask: write(machine, machine.parameters[number], mask)
    dtype = TYPES[instruction.kind]
    read = {"global": load_global, "shared": load_shared}[_form(instruction)]
    writers, address = [program.writer(name) for name in elements(to)], program.address(source)

    def step(machine: Machine, mask: Mask) -> None:
        loaded = read(machine, address(machine), dtype, len(writers), mask, instruction)
        for write, value in zip(writers, loaded, strict=True):
            write(machine, value, mask)

    return step


def _store(program: Program, instruction: Instruction) -> Step:
    to, source = instruction.operands
    store = {"global": _store_global, "shared": store_shared}[_form(instruction)]
    readers = [program.reader(name, instruction.kind) for name in elements(source)]
    address = program.address(to)
    return lambda machine, mask: store(
        machine, address(machine), [read(machine) for read in readers], mask, instruction
    )


def load_global(
    machine: Machine, address: Array, dtype: np.dtype[Any], count: int, mask: Mask, where: Instruction
) -> list[NDArray[Any]]:
    """Read ``count`` numbers a thread from global memory; 0 for the threads outside the mask."""
    out = [np.zeros(machine.threads, dtype) for _ in range(count)]
    size, memory = dtype.itemsize, machine.memory
    active, address = machine.active(mask), machine.each(address)
    for place in memory.locate(address, size, count, active, where):
        view = memory.view(place.span, dtype)
        for k in range(count):
            out[k][place.threads] = view[place.first + k]
        memory.touch(place, size, count, machine.number, False, where)
    machine.counts.transfer("load", address, size * count, active)
    return out


def _store_global(machine: Machine, address: Array, values: list[Array], mask: Mask, where: Instruction) -> None:
    """Write numbers of each thread to global memory."""
    dtype, memory = np.asarray(values[0]).dtype, machine.memory
    size, count = dtype.itemsize, len(values)
    active, address = machine.active(mask), machine.each(address)
    for place in memory.locate(address, size, count, active, where):
        view = memory.view(place.span, dtype)
        for k, value in enumerate(values):
            write(view, place.first + k, machine.each(value)[place.threads], where)
        memory.touch(place, size, count, machine.number, True, where)
    machine.counts.transfer("store", address, size * count, active)


def write(view: NDArray[Any], at: NDArray[np.int64], values: NDArray[Any], where: object) -> None:
    """Write, and see whether all of it stands.

    Raises:
        PtxError: two threads write different numbers to one place.
    """
    view[at] = values
    bits = BITS[view.dtype.itemsize]
    if (view[at].view(bits) != np.ascontiguousarray(values).view(bits)).any():
        raise PtxError(f"{where}: two threads write different values to one place")


def shared_index(
    machine: Machine, address: Array, wide: int, active: NDArray[np.bool_], where: object
) -> NDArray[np.int64]:
    """Return each active thread's first byte in the shared memory of all programs, by its address in its own."""
    address = machine.each(address)[active].astype(np.int64)
    machine.shared.require(address, wide, wide, where)
    return machine.shared_start[active] + address


def load_shared(
    machine: Machine, address: Array, dtype: np.dtype[Any], count: int, mask: Mask, where: Instruction
) -> list[NDArray[Any]]:
    """Read ``count`` numbers a thread from shared memory; 0 for the threads outside the mask."""
    active, wide = machine.active(mask), dtype.itemsize * count
    index = shared_index(machine, address, wide, active, where)
    machine.shared.touch(index, wide, machine.warp[active], machine.interval[active], False, where)
    machine.counts.banks("load", index, wide, active)
    view, word = machine.shared.view(dtype), index // dtype.itemsize
    out = []
    for k in range(count):
        values = np.zeros(machine.threads, dtype)
        values[active] = view[word + k]
        out.append(values)
    return out


def store_shared(machine: Machine, address: Array, values: list[Array], mask: Mask, where: Instruction) -> None:
    """Write numbers of each thread to shared memory."""
    dtype = np.asarray(values[0]).dtype
    active, wide = machine.active(mask), dtype.itemsize * len(values)
    index = shared_index(machine, address, wide, active, where)
    machine.shared.touch(index, wide, machine.warp[active], machine.interval[active], True, where)
    machine.counts.banks("store", index, wide, active)
    view, word = machine.shared.view(dtype), index // dtype.itemsize
    for k, value in enumerate(values):
        write(view, word + k, machine.each(value)[active], where)


HANDLERS = {"ld": _load, "st": _store}
