"""Arithmetic: integers, bits, floating-point numbers and the special functions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ptx import numbers
from ptx.errors import PtxError
from ptx.numbers import TYPES, Array
from ptx.parsing import Instruction
from ptx.program import Mask, Program, Step, only

if TYPE_CHECKING:
    from ptx.machine import Machine

Binary = Callable[[Array, Array], Array]

_OPERATORS: dict[str, Binary] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
}
_HALVES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "f16": (lambda bits: np.asarray(bits).view(np.float16).astype(np.float32), numbers.to_f16),
    "bf16": (numbers.from_bf16, numbers.to_bf16),
}
"""How 16-bit floats become float32, and float32 they."""


def is_float(kind: str) -> bool:
    """Return whether a type is a floating-point number or a pair of them."""
    return kind.lstrip("b").startswith("f")


def floating(function: Callable[..., Array], kind: str, flush: bool = False) -> Callable[..., Array]:
    """Return a function of float32 as one of numbers of another floating-point type, result included.

    Args:
        function: computes in float32, or in float64 where the result is narrowed.
        kind: "f32", "f16", "bf16", or a pair of the latter in 32 bits.
        flush: whether subnormal numbers count as zero, coming and going.
    """
    if kind == "f32":
        if not flush:
            return function
        return lambda *x: numbers.flushed(function(*map(numbers.flushed, x)))
    if kind.endswith("x2"):
        half = floating(function, kind[:-2], flush)
        u4 = np.dtype("u4")
        return lambda *x: numbers.packed(
            [half(*pair) for pair in zip(*(numbers.unpacked(a, 2) for a in x), strict=True)], u4
        )
    if flush:
        raise PtxError(f"subnormal numbers of {kind} as zero")
    widen, narrow = _HALVES[kind]
    return lambda *x: narrow(function(*map(widen, map(_bits16, x))))


def _bits16(x: Array) -> Array:
    return numbers.as_type(x, np.dtype("u2"))


def _binary(program: Program, instruction: Instruction) -> Step:
    """Add, subtract, multiply, and the bitwise operations."""
    name, kind = instruction.name, instruction.kind
    if name == "mul" and instruction.parts[1] in ("hi", "wide"):
        return program.pure(instruction, _product(instruction), kind, kind)
    function = _OPERATORS[name]
    if is_float(kind):
        flush = "ftz" in only(instruction, "rn", "ftz")
        return program.pure(instruction, floating(function, kind, flush), kind, kind)
    only(instruction, *(["lo"] if name == "mul" else []))
    return program.pure(instruction, function, kind, kind)


def _product(instruction: Instruction) -> Binary:
    """Return the whole product of two integers, or its upper half."""
    only(instruction, "hi", "wide")
    dtype = TYPES[instruction.kind]
    wide = np.dtype(f"{dtype.kind}{2 * dtype.itemsize}")
    if instruction.parts[1] == "wide":
        return lambda a, b: np.multiply(a, b, dtype=wide)
    return lambda a, b: (np.multiply(a, b, dtype=wide) >> wide.type(8 * dtype.itemsize)).astype(dtype)


def _multiply_add(program: Program, instruction: Instruction) -> Step:
    """Multiply and add integers (`mad`)."""
    kind = instruction.kind
    if only(instruction, "lo", "wide") == {"lo"}:
        return program.pure(instruction, lambda a, b, c: a * b + c, kind, kind, kind)
    wide = f"{kind[0]}{2 * int(kind[1:])}"
    return program.pure(instruction, lambda a, b, c: np.multiply(a, b, dtype=TYPES[wide]) + c, kind, kind, wide)


def _fused_multiply_add(program: Program, instruction: Instruction) -> Step:
    flush = "ftz" in only(instruction, "rn", "ftz")
    kind = instruction.kind
    if not is_float(kind):
        raise PtxError(f"unknown: {instruction}")
    function = numbers.fma32 if kind == "f32" else numbers.fma
    return program.pure(instruction, floating(function, kind, flush), kind, kind, kind)


def _extremum(program: Program, instruction: Instruction) -> Step:
    """Minimum or maximum; of floats, the other number where one is NaN, or NaN if the instruction says so."""
    kind, name = instruction.kind, instruction.name
    if not is_float(kind):
        only(instruction)
        return program.pure(instruction, getattr(np, f"{name}imum"), kind, kind)
    modifiers = only(instruction, "NaN", "ftz")
    extremum, spreads = getattr(numbers, f"{name}imum"), "NaN" in modifiers
    function = floating(lambda a, b: extremum(a, b, spreads), kind, "ftz" in modifiers)
    return program.pure(instruction, function, kind, kind)


def _divide(program: Program, instruction: Instruction) -> Step:
    kind = instruction.kind
    if not is_float(kind):
        only(instruction)
        return program.pure(instruction, numbers.quotient, kind, kind)
    modifiers = only(instruction, "full", "approx", "rn", "ftz")
    relative = 0.0 if "rn" in modifiers else 2.0**-22  # two units in the last place
    function = _by_reciprocal if "approx" in modifiers else lambda a, b: np.divide(a, b, dtype=np.float64)
    return _approximate(program, instruction, function, relative, 0.0, "ftz" in modifiers)


def _by_reciprocal(a: Array, b: Array) -> Array:
    """Return a/b as a times the reciprocal of b, which is 0 where b is above 2¹²⁶."""
    large = (np.abs(b) > 2.0**126) & np.isfinite(b)
    return np.where(large, np.multiply(a, np.copysign(0.0, b), dtype=np.float64), np.divide(a, b, dtype=np.float64))


def _remainder(program: Program, instruction: Instruction) -> Step:
    only(instruction)
    return program.pure(instruction, np.fmod, instruction.kind, instruction.kind)


_FUNCTIONS: dict[str, tuple[Callable[[Array], Array], float, float]] = {
    "lg2": (np.log2, 2.0**-22, 2.0**-22),
    "ex2": (np.exp2, 2.0**-22, 0.0),
    "rcp": (np.reciprocal, 2.0**-23, 0.0),
    "sqrt": (np.sqrt, 2.0**-23, 0.0),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 2.0**-22, 0.0),
}
"""Special functions in float64, with the errors that NVIDIA documents: the larger of a relative and an absolute one."""


def _special_function(program: Program, instruction: Instruction) -> Step:
    modifiers = only(instruction, "approx", "rn", "ftz")
    function, relative, absolute = _FUNCTIONS[instruction.name]
    if "approx" not in modifiers:
        relative = absolute = 0.0
    return _approximate(
        program, instruction, lambda x: function(np.asarray(x, np.float64)), relative, absolute, "ftz" in modifiers
    )


def _approximate(
    program: Program,
    instruction: Instruction,
    function: Callable[..., Array],
    relative: float,
    absolute: float,
    flush: bool,
) -> Step:
    """Return the step of a function in float64 that the hardware only approximates in float32."""
    if instruction.kind != "f32":
        raise PtxError(f"unknown: {instruction}")
    write = program.writer(instruction.operands[0])
    readers = [program.reader(source, "f32") for source in instruction.operands[1:]]

    def step(machine: Machine, mask: Mask) -> None:
        x = [read(machine) for read in readers]
        exact = function(*(map(numbers.flushed, x) if flush else x))
        y = machine.approximately(exact, relative, absolute)
        write(machine, numbers.flushed(y) if flush else y, mask)

    return step


def _shift(program: Program, instruction: Instruction) -> Step:
    """Shift bits; by as many as there are or more gives what shifting one by one would."""
    kind = instruction.kind
    only(instruction)
    dtype, bits = TYPES[kind], 8 * TYPES[kind].itemsize
    left = instruction.name == "shl"

    def shifted(x: Array, amount: Array) -> Array:
        far = amount >= bits
        near = np.where(far, bits - 1, amount).astype(dtype)
        out = x << near if left else x >> near
        gone = out if dtype.kind == "i" and not left else dtype.type(0)
        return np.where(far, gone, out)

    return program.pure(instruction, shifted, kind, "u32")


def _funnel_shift(program: Program, instruction: Instruction) -> Step:
    """Shift two numbers as one of 64 bits, by the amount modulo 32, and keep the upper or the lower half."""
    only(instruction, "l", "r", "wrap")
    direction, wrap = instruction.parts[1:3]
    if wrap != "wrap" or instruction.kind != "b32":
        raise PtxError(f"unknown: {instruction}")

    def shifted(low: Array, high: Array, amount: Array) -> Array:
        both = np.asarray(low, np.uint64) | (np.asarray(high, np.uint64) << 32)
        by = np.asarray(amount, np.uint64) & 31
        return ((both << by) >> 32 if direction == "l" else both >> by).astype(np.uint32)

    return program.pure(instruction, shifted, "b32", "b32", "u32")


def _unary(program: Program, instruction: Instruction) -> Step:
    kind = instruction.kind
    flush = "ftz" in only(instruction, "ftz")
    function = {"neg": np.negative, "abs": np.abs, "not": np.invert}[instruction.name]
    if is_float(kind):
        return program.pure(instruction, floating(function, kind, flush), kind)
    return program.pure(instruction, function, kind)


def _bit_field(program: Program, instruction: Instruction) -> Step:
    only(instruction)
    kind = {"s32": "b32", "u32": "b32", "s64": "b64", "u64": "b64"}[instruction.kind]
    signed = instruction.kind[0] == "s"

    def field(x: Array, start: Array, length: Array) -> Array:
        return numbers.bit_field(x, start, length, signed)

    return program.pure(instruction, field, kind, "b32", "b32")


HANDLERS = {
    **dict.fromkeys(_OPERATORS, _binary),
    **dict.fromkeys(("min", "max"), _extremum),
    **dict.fromkeys(_FUNCTIONS, _special_function),
    **dict.fromkeys(("shl", "shr"), _shift),
    **dict.fromkeys(("neg", "abs", "not"), _unary),
    "shf": _funnel_shift,
    "mad": _multiply_add,
    "fma": _fused_multiply_add,
    "div": _divide,
    "rem": _remainder,
    "bfe": _bit_field,
}
