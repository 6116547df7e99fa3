"""Comparison, choice and movement between registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ptx import numbers
from ptx.errors import PtxError
from ptx.instructions.arithmetic import is_float
from ptx.numbers import BITS, TYPES, Array
from ptx.parsing import Instruction, elements
from ptx.program import Mask, Program, Step, only

if TYPE_CHECKING:
    from ptx.machine import Machine

Comparison = Callable[[Array, Array], Array]


def _ordered(a: Array, b: Array) -> Array:
    return (a == a) & (b == b)


_COMPARISONS: dict[str, Comparison] = {
    "eq": np.equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
    "ne": lambda a, b: _ordered(a, b) & (a != b),
    "equ": lambda a, b: ~_ordered(a, b) | (a == b),
    "neu": np.not_equal,
    "ltu": lambda a, b: ~(a >= b),
    "leu": lambda a, b: ~(a > b),
    "gtu": lambda a, b: ~(a <= b),
    "geu": lambda a, b: ~(a < b),
    "num": _ordered,
    "nan": lambda a, b: ~_ordered(a, b),
}
"""By name; those of floats say what NaN gives."""

_UNSIGNED_ONLY = ("lo", "ls", "hi", "hs")
_FLOAT_ONLY = ("equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan")


def _set_predicate(program: Program, instruction: Instruction) -> Step:
    comparison, kind = instruction.parts[1], instruction.kind
    modifiers = only(instruction, "ftz", comparison)
    if (comparison in _FLOAT_ONLY and not is_float(kind)) or (comparison in _UNSIGNED_ONLY and kind[0] != "u"):
        raise PtxError(f"unknown: {instruction}")
    compare = _COMPARISONS[comparison]
    if kind.endswith("x2"):
        return _set_two_predicates(program, instruction, _of_float32(compare, kind[:-2], "ftz" in modifiers))
    if is_float(kind) and kind != "f64":
        compare = _of_float32(compare, kind, "ftz" in modifiers)
    return program.pure(instruction, compare, kind, kind)


def _of_float32(compare: Comparison, kind: str, flush: bool) -> Comparison:
    """Return a comparison of numbers of a type by their values in float32."""
    if flush and kind != "f32":
        raise PtxError(f"subnormal numbers of {kind} as zero")
    if kind == "f32":
        return (lambda a, b: compare(numbers.flushed(a), numbers.flushed(b))) if flush else compare
    widen = numbers.from_bf16 if kind == "bf16" else (lambda x: np.asarray(x).astype(np.float32))
    return lambda a, b: compare(widen(a), widen(b))


def _set_two_predicates(program: Program, instruction: Instruction, compare: Comparison) -> Step:
    """Compare pairs: a predicate for the lower half, and one for the upper."""
    lower, upper = (program.writer(name) for name in instruction.operands[0].split("|"))
    first, second = (program.reader(operand, "b32") for operand in instruction.operands[1:])
    half = instruction.kind[:-2]

    def step(machine: Machine, mask: Mask) -> None:
        pairs = zip(
            *([as_half(part, half) for part in numbers.unpacked(x, 2)] for x in (first(machine), second(machine))),
            strict=True,
        )
        low, high = (compare(a, b) for a, b in pairs)
        lower(machine, low, mask)
        upper(machine, high, mask)

    return step


def as_half(bits: Array, kind: str) -> Array:
    """Return 16 bits as a number of their type; bfloat16 stays bits."""
    return numbers.as_type(bits, TYPES[kind])


def _select(program: Program, instruction: Instruction) -> Step:
    only(instruction)
    kind = instruction.kind
    return program.pure(instruction, lambda a, b, which: np.where(which, a, b), kind, kind, "pred")


def _move(program: Program, instruction: Instruction) -> Step:
    """Copy a register, take one apart, or put one together."""
    only(instruction)
    to, source = instruction.operands
    kind = instruction.kind
    if to.startswith("{"):
        names = elements(to)
        writers, read = [program.writer(name) for name in names], program.reader(source, kind)

        def take_apart(machine: Machine, mask: Mask) -> None:
            for write, part in zip(writers, numbers.unpacked(read(machine), len(names)), strict=True):
                write(machine, part, mask)

        return take_apart
    if source.startswith("{"):
        parts = elements(source)
        size = TYPES[kind].itemsize
        readers, write = [program.reader(part, f"b{8 * size // len(parts)}") for part in parts], program.writer(to)
        return lambda machine, mask: write(
            machine, numbers.packed([read(machine) for read in readers], BITS[size]), mask
        )
    return program.pure(instruction, lambda x: x, kind)


def _permute(program: Program, instruction: Instruction) -> Step:
    only(instruction)
    return program.pure(instruction, numbers.permuted_bytes, *[{"b32": "b32"}[instruction.kind]] * 3)


HANDLERS = {"setp": _set_predicate, "selp": _select, "mov": _move, "prmt": _permute}
