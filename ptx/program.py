"""A kernel ready to execute: every basic block a list of steps, each a function of the machine and a mask.

A block is translated when it first runs. An instruction, an operand or a modifier that is not known is an error then.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptx import schedule
from ptx.errors import PtxError
from ptx.numbers import BITS, TYPES, Array, as_type
from ptx.parsing import Instruction, parse

if TYPE_CHECKING:
    from ptx.machine import Machine

Mask = NDArray[np.bool_] | None
"""Threads that execute; None for all."""

Step = Callable[["Machine", Mask], None]
Handler = Callable[["Program", Instruction], Step]
Reader = Callable[["Machine"], Array]
Writer = Callable[["Machine", Array, Mask], None]

_AXES = ("tid", "ntid", "ctaid", "nctaid")
SPECIAL = frozenset(["%laneid", "%warpid", *(f"%{name}.{axis}" for name in _AXES for axis in "xyz")])
"""Registers that the hardware sets and that are known here."""

_NUMBER = re.compile(r"-?\d+U?|-?0[xX][0-9a-fA-F]+U?")
_ADDRESS = re.compile(r"\[\s*([%\w$@]+)\s*(?:\+\s*(-?\w+))?\s*\]")


class Jump(NamedTuple):
    """End of a block."""

    target: int | None = None
    """Block that threads go to; None for the next one."""
    condition: int | None = None
    """Register that says which threads do; None for all."""
    negated: bool = False
    """Whether they do where it is false."""
    barrier: bool = False
    """Whether threads wait for each other."""


class Program:
    """A kernel, parsed, and translated block by block.

    Args:
        ptx: text of a module with one kernel.
        handlers: functions that make the step of an instruction, by its name; needed to execute it.

    Raises:
        PtxError: the text has no kernel, or statements that are not known.
    """

    def __init__(self, ptx: str, handlers: Mapping[str, Handler] | None = None) -> None:
        self.entry = parse(ptx)
        self._handlers = handlers or {}
        self._numbers = {name: number for number, name in enumerate(self.entry.registers)}
        self._names = list(self.entry.registers)
        self._parameters = {name: number for number, name in enumerate(self.entry.parameters)}
        self._blocks: dict[int, tuple[list[Step], Jump]] = {}

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """Place of each block in the order in which threads that have parted take their turns."""
        return schedule.ranks(self.entry)

    @property
    def shared_grain(self) -> int:
        """Bytes of the smallest access to shared memory."""
        return self._grain("shared")

    @property
    def global_grain(self) -> int:
        """Bytes of the smallest access to global memory."""
        return self._grain("global")

    def _grain(self, space: str) -> int:
        kinds = [
            instruction.kind
            for block in self.entry.blocks
            for instruction in block
            if instruction.name in ("ld", "st") and space in instruction.parts
        ]
        return min([2, *(TYPES[kind].itemsize for kind in kinds if kind in TYPES)])

    def block(self, number: int) -> tuple[list[Step], Jump]:
        """Return a block's steps and its end."""
        if number not in self._blocks:
            instructions = self.entry.blocks[number]
            last = instructions[-1] if instructions and instructions[-1].ends_block else None
            steps = [self._step(instruction) for instruction in instructions[: len(instructions) - (last is not None)]]
            self._blocks[number] = steps, self._jump(last)
        return self._blocks[number]

    def _jump(self, last: Instruction | None) -> Jump:
        if last is None:
            return Jump()
        condition = self._numbers[last.guard] if last.guard else None
        if last.opcode in ("bar.sync", "barrier.sync.aligned", "barrier.sync"):
            if last.operands != ("0",):
                raise PtxError(f"a barrier that is not known: {last}")
            return Jump(None, condition, last.negated, True)
        if last.opcode in ("ret", "exit"):
            return Jump(len(self.entry.blocks), condition, last.negated)
        if last.opcode in ("bra", "bra.uni"):
            return Jump(self.entry.labels[last.operands[0]], condition, last.negated)
        raise PtxError(f"unknown: {last}")

    def _step(self, instruction: Instruction) -> Step:
        if instruction.name not in self._handlers:
            raise PtxError(f"unknown: {instruction}")
        try:
            step = self._handlers[instruction.name](self, instruction)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise PtxError(f"unknown: {instruction} ({error!r})") from error
        return self._guarded(step, instruction) if instruction.guard else step

    def _guarded(self, step: Step, instruction: Instruction) -> Step:
        number, negated = self._numbers[str(instruction.guard)], instruction.negated

        def run(machine: Machine, mask: Mask) -> None:
            condition = machine.registers[number] ^ negated
            if mask is not None:
                condition = mask & condition
            if condition.any():
                step(machine, None if mask is None and condition.all() else condition)

        return run

    # ---- operands

    def reader(self, operand: str, kind: str) -> Reader:
        """Return a function that reads an operand as numbers of a type.

        Raises:
            PtxError: the operand is neither register, nor special register, nor number.
        """
        dtype = TYPES[kind]
        if operand.startswith("!"):
            inner = self.reader(operand[1:], kind)
            return lambda machine: ~inner(machine)
        if operand in self._numbers:
            number = self._numbers[operand]
            return lambda machine: as_type(machine.registers[number], dtype)
        if operand in SPECIAL:
            return lambda machine: as_type(machine.special[operand], dtype)
        constant = _constant(operand, dtype)
        return lambda machine: constant

    def writer(self, operand: str) -> Writer:
        """Return a function that writes numbers of any type to a register, for the threads of a mask."""
        if operand == "_":
            return lambda machine, value, mask: None
        number, dtype = self._numbers[operand], self.entry.registers[operand]

        def write(machine: Machine, value: Array, mask: Mask) -> None:
            value = as_type(value, dtype)
            machine.registers[number] = value if mask is None else np.where(mask, value, machine.registers[number])

        return write

    def address(self, operand: str) -> Reader:
        """Return a function that reads the address [base + offset], in 64 bits.

        The one symbol is the start of shared memory, which is address 0 of it.
        """
        found = _ADDRESS.fullmatch(operand)
        if found is None:
            raise PtxError(f"an address that is not known: {operand}")
        base, offset = found.group(1), np.uint64(int(found.group(2) or "0", 0) & (2**64 - 1))
        if base not in self._numbers:
            start = np.uint64(_constant(base, np.dtype(np.uint64)) + offset)
            return lambda machine: start
        read = self.reader(base, f"b{8 * self.entry.registers[base].itemsize}")
        return lambda machine: np.asarray(read(machine)).astype(np.uint64) + offset

    def number(self, register: str) -> int:
        """Return the number of a register."""
        return self._numbers[register]

    def register(self, number: int) -> str:
        """Return the name of a register."""
        return self._names[number]

    def parameter(self, operand: str) -> int:
        """Return the number of the parameter [name]."""
        return self._parameters[operand.strip("[] ").partition("+")[0]]

    def pure(self, instruction: Instruction, function: Callable[..., Array], *kinds: str) -> Step:
        """Return a step that writes a function of operands, each read as its type, to the first one."""
        write = self.writer(instruction.operands[0])
        sources = instruction.operands[1:]
        if len(sources) != len(kinds):
            raise PtxError(f"unknown: {instruction}")
        readers = [self.reader(source, kind) for source, kind in zip(sources, kinds, strict=True)]
        return lambda machine, mask: write(machine, function(*(read(machine) for read in readers)), mask)


def _constant(text: str, dtype: np.dtype[Any]) -> Array:
    """Return a literal as a number of a type.

    Raises:
        PtxError: it is not one.
    """
    if text in ("global_smem", "global_smem_addr"):
        text = "0"
    if text[:2] in ("0f", "0F"):
        return np.frombuffer(struct.pack("<I", int(f"0x{text[2:]}", 0)), np.float32)[0].view(np.uint32).view(dtype)
    if text[:2] in ("0d", "0D"):
        return np.frombuffer(struct.pack("<Q", int(f"0x{text[2:]}", 0)), np.uint64)[0].view(dtype)
    if not _NUMBER.fullmatch(text):
        raise PtxError(f"an operand that is not known: {text}")
    number = int(text.rstrip("U"), 0)
    if dtype.kind == "b":
        return np.bool_(number)
    return np.array(number & (2 ** (8 * dtype.itemsize) - 1), BITS[dtype.itemsize]).view(dtype)[()]


def only(instruction: Instruction, *modifiers: str) -> set[str]:
    """Return the modifiers between an instruction's name and type.

    Raises:
        PtxError: one of them is none of ``modifiers``.
    """
    found = set(instruction.parts[1:-1])
    if found - set(modifiers):
        raise PtxError(f"unknown: {instruction}")
    return found
