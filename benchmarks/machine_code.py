"""Machine instructions that a launch executes: those of the machine code, as often as its PTX was seen to run them.

The executor counts how often a warp enters each loop of the PTX; the assembler keeps the loops, so that its code can be
weighed by these counts. Where it has made more or fewer loops, all instructions are scaled by the lengths of both
codes.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from ptx import Counts
from ptx.program import Program

_INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)([^;]*);", re.MULTILINE)
_TARGET = re.compile(r"0x([0-9a-f]+)")


class Loop(NamedTuple):
    """Places of a loop's first and last instruction or block."""

    first: int
    last: int


def executed(sass: str, program: Program, counts: Counts) -> Counter[str]:
    """Return the machine instructions that the warps of a launch executed, by full name.

    Args:
        sass: listing of the machine code, as cuobjdump prints it.
        program: the PTX that it was made of.
        counts: what its execution counted.
    """
    listing = _listing(sass)
    entries = [counts.blocks[program, block] for block in range(len(program.entry.blocks))]
    machine_loops, loops = _machine_loops(listing), ptx_loops(program)
    warps = entries[0]
    out: Counter[str] = Counter()
    if len(machine_loops) != len(loops):
        static = sum(map(len, program.entry.blocks))
        scale = sum(counts.instructions().values()) / static
        for _, name, _ in listing:
            out[name] += scale  # type: ignore[assignment]
        return out
    for at, name, _ in listing:
        inner = [k for k, loop in enumerate(machine_loops) if loop.first <= at <= loop.last]
        out[name] += entries[loops[inner[-1]].first] if inner else warps
    return out


def _listing(sass: str) -> list[tuple[int, str, str]]:
    """Return address, name and operands of each instruction, without what stands behind the end: a trap and padding."""
    found = [(int(at, 16), name, rest) for at, name, rest in _INSTRUCTION.findall(sass)]
    return [(at, name, rest) for at, name, rest in found if name != "NOP" and _target(rest) != at]


def _target(rest: str) -> int | None:
    """Return the address that an instruction jumps to."""
    found = _TARGET.search(rest)
    return int(found.group(1), 16) if found else None


def ptx_loops(program: Program) -> list[Loop]:
    """Return the loops of a kernel, by the blocks that they begin and end with, outer ones first."""
    ends: dict[int, int] = {}
    for number, block in enumerate(program.entry.blocks):
        if block and block[-1].name == "bra" and (target := program.entry.labels[block[-1].operands[0]]) <= number:
            ends[target] = max(number, ends.get(target, 0))
    return [Loop(first, last) for first, last in sorted(ends.items())]


def _machine_loops(listing: list[tuple[int, str, str]]) -> list[Loop]:
    """Return the loops of a listing, by the addresses that they begin and end with."""
    ends: dict[int, int] = {}
    for at, name, rest in listing:
        first = _target(rest)
        if name.startswith("BRA") and first is not None and first < at:
            ends[first] = max(at, ends.get(first, 0))
    return [Loop(first, last) for first, last in sorted(ends.items())]
