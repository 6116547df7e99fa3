"""Conversion between types (`cvt`), each form with the rounding that it names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ptx import numbers
from ptx.errors import PtxError
from ptx.instructions.arithmetic import is_float
from ptx.numbers import TYPES, Array
from ptx.parsing import Instruction
from ptx.program import Program, Step, only

_NARROW: dict[str, Callable[[Array], Array]] = {"f16": numbers.to_f16, "bf16": numbers.to_bf16}


def _convert(program: Program, instruction: Instruction) -> Step:
    parts = instruction.parts
    to, source = parts[-2], parts[-1]
    modes = only(instruction, "rn", "rna", "rz", "rzi", to) - {to}
    if to in ("f16x2", "bf16x2"):
        narrow = _NARROW[to[:-2]]
        u4 = np.dtype("u4")
        return program.pure(
            instruction, lambda high, low: numbers.packed([narrow(low), narrow(high)], u4), *[_float(source)] * 2
        )
    return program.pure(instruction, _conversion(instruction, to, source, modes), source)


def _float(kind: str) -> str:
    if kind != "f32":
        raise PtxError(f"a pair made of {kind}")
    return kind


def _conversion(instruction: Instruction, to: str, source: str, modes: set[str]) -> Callable[[Array], Array]:
    """Return the function from one type to another."""
    dtype = TYPES[to]
    if not is_float(to) and not is_float(source) and to != "tf32" and not modes:
        return lambda x: np.asarray(x).astype(dtype)
    known: dict[tuple[str, str, frozenset[str]], Callable[[Array], Array]] = {
        ("bf16", "f32", frozenset({"rn"})): numbers.to_bf16,
        ("f16", "f32", frozenset({"rn"})): numbers.to_f16,
        ("tf32", "f32", frozenset({"rna"})): numbers.to_tf32,
        ("f32", "bf16", frozenset()): numbers.from_bf16,
        ("f32", "f16", frozenset()): lambda x: np.asarray(x).astype(np.float32),
        ("f64", "f32", frozenset()): lambda x: np.asarray(x).astype(np.float64),
    }
    if (to, source, frozenset(modes)) in known:
        return known[to, source, frozenset(modes)]
    if to == "f32" and not is_float(source) and modes == {"rn"}:
        return lambda x: np.asarray(x).astype(np.float32)
    if to == "f32" and not is_float(source) and modes == {"rz"} and TYPES[source].itemsize <= 4:
        return numbers.float_toward_zero
    if not is_float(to) and source == "f32" and modes == {"rzi"}:
        return lambda x: numbers.integer_toward_zero(x, dtype)
    raise PtxError(f"unknown: {instruction}")


HANDLERS = {"cvt": _convert}
