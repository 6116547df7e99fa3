"""A launch of a compiled kernel on the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from ptx.counting import Counts
from ptx.errors import PtxError
from ptx.global_memory import GlobalMemory, Reserved, Span
from ptx.instructions import HANDLERS
from ptx.machine import Machine, Options
from ptx.numbers import BITS, TYPES, Array
from ptx.program import Program

LANES = 8192
"""Threads in lockstep at most, unless one program has more: few make NumPy slow, many leave the cache."""


def launch(
    ptx: str,
    grid: Sequence[int],
    arguments: Sequence[int | float],
    spans: Iterable[Span],
    shared: int = 0,
    options: Options | None = None,
    programs: Sequence[int] | None = None,
    reserved: Sequence[Reserved] = (),
) -> Counts:
    """Execute the programs of a grid.

    Args:
        ptx: text of a module with one kernel.
        grid: number of programs along each axis, one to three.
        arguments: integers, addresses among them, and floats, in the order of the parameters; those that are missing
            at the end are 0.
        spans: memory that the kernel may use.
        shared: bytes of shared memory of a program.
        options: what is checked and counted; `Options` by default.
        programs: numbers of the programs to execute; all by default.
        reserved: memory of which parts may not have been written; what the kernel writes is marked.

    Returns:
        What they did.

    Raises:
        PtxError: a fault of the kernel, or an instruction that is not known.
    """
    program, options = translated(ptx), options or Options()
    x, y, z = (*grid, 1, 1)[:3]
    parameters = _parameters(program, arguments)
    numbers = range(x * y * z) if programs is None else programs
    memory, counts = GlobalMemory(list(spans), options.checked, program.global_grain, reserved), Counts(options.counted)
    together = max(LANES // program.entry.threads, 1)
    for first in range(0, len(numbers), together):
        some = numbers[first : first + together]
        Machine(program, memory, (x, y, z), some, shared, parameters, options, counts).run()
    return counts


@lru_cache(maxsize=4096)
def translated(ptx: str) -> Program:
    """Return the program of a text, the same for the same text."""
    return Program(ptx, HANDLERS)


def _parameters(program: Program, arguments: Sequence[int | float]) -> list[Array]:
    """Return the arguments as bits of the sizes of the parameters."""
    kinds = list(program.entry.parameters.values())
    if len(arguments) > len(kinds):
        raise PtxError(f"{program.entry.name} takes {len(kinds)} arguments, not {len(arguments)}")
    out: list[Array] = []
    for kind, value in zip(kinds, [*arguments, *[0] * (len(kinds) - len(arguments))], strict=True):
        dtype = TYPES[kind]
        if isinstance(value, float):
            out.append(np.array(value, f"f{dtype.itemsize}").view(BITS[dtype.itemsize])[()])
        else:
            bits = value & (2 ** (8 * dtype.itemsize) - 1)
            out.append(np.array(bits, BITS[dtype.itemsize])[()])
    return out
