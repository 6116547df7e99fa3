"""Matrix instructions of a warp: fragments from and to shared memory, and their product.

Where the elements of a fragment lie, and in which lane's register, is PTX ISA, sections "Matrix Fragments for
mma.m16n8k16" and "ldmatrix". Products are summed in float64 and rounded once: the hardware's own sum is less exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptx import numbers
from ptx.errors import PtxError
from ptx.instructions.memory import write
from ptx.parsing import Instruction, elements
from ptx.program import Mask, Program, Step

if TYPE_CHECKING:
    from ptx.machine import Machine

_WORD, _HALF = np.dtype(np.uint32), np.dtype(np.uint16)

DECODED: dict[str, Callable[[NDArray[Any]], NDArray[np.float32]]] = {
    "bf16": numbers.from_bf16,
    "f16": lambda bits: bits.view(np.float16).astype(np.float32),
    "tf32": numbers.from_tf32,
}
"""Elements of a fragment as float32, by type; two elements of 16 bits share a register."""


def _rows(machine: Machine, address: NDArray[Any], matrices: int, live: NDArray[np.bool_], where: object) -> Any:
    """Return the byte in shared memory of each lane's word of each matrix of 8 × 8 pairs, (matrices, warps, 32).

    Lanes 8j…8j + 7 hold the addresses of the rows of matrix j; lane l has word l mod 4 of row l div 4.
    """
    rows = machine.by_warp(address.astype(np.int64))[:, : 8 * matrices]
    machine.shared.require(rows[live], 16, 16, where)
    start = machine.by_warp(machine.shared_start)[:, :1]
    lane = np.arange(32)
    index = [np.where(live[:, None], rows[:, 8 * j + lane // 4] + 4 * (lane % 4) + start, 0) for j in range(matrices)]
    return np.stack(index)


def _matrix_form(instruction: Instruction) -> bool:
    """Return whether matrices are transposed."""
    rest = [part for part in instruction.parts[1:] if part not in ("x1", "x2", "x4", "trans")]
    if rest != ["sync", "aligned", "m8n8", "shared", "b16"]:
        raise PtxError(f"unknown: {instruction}")
    return "trans" in instruction.parts


def _transposed(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return matrices of 8 × 8 elements of 16 bits transposed, (warps, 32 words)."""
    halves = np.ascontiguousarray(words).view(_HALF).reshape(-1, 8, 8)
    return np.ascontiguousarray(halves.transpose(0, 2, 1)).reshape(-1, 64).view(_WORD)


def _touch(
    machine: Machine, index: NDArray[np.int64], live: NDArray[np.bool_], write: bool, where: Instruction
) -> None:
    lanes = np.repeat(live, 32)
    flat = index.reshape(-1)[lanes]
    machine.shared.touch(flat, 4, machine.warp[lanes], machine.interval[lanes], write, where)
    machine.counts.banks("store" if write else "load", flat, 4, lanes)


def _load_matrices(program: Program, instruction: Instruction) -> Step:
    trans = _matrix_form(instruction)
    writers = [program.writer(name) for name in elements(instruction.operands[0])]
    address = program.address(instruction.operands[1])

    def step(machine: Machine, mask: Mask) -> None:
        live = machine.whole_warps(mask, instruction)
        indices = _rows(machine, machine.each(address(machine)), len(writers), live, instruction)
        for give, index in zip(writers, indices, strict=True):
            _touch(machine, index, live, False, instruction)
            words = machine.shared.view(_WORD)[index // 4]
            give(machine, (_transposed(words) if trans else words).reshape(-1), mask)

    return step


def _store_matrices(program: Program, instruction: Instruction) -> Step:
    trans = _matrix_form(instruction)
    readers = [program.reader(name, "b32") for name in elements(instruction.operands[1])]
    address = program.address(instruction.operands[0])

    def step(machine: Machine, mask: Mask) -> None:
        live = machine.whole_warps(mask, instruction)
        indices = _rows(machine, machine.each(address(machine)), len(readers), live, instruction)
        for read, index in zip(readers, indices, strict=True):
            words = np.ascontiguousarray(machine.by_warp(read(machine)))
            _touch(machine, index, live, True, instruction)
            write(
                machine.shared.view(_WORD),
                index[live] // 4,
                (_transposed(words) if trans else words)[live],
                instruction,
            )

    return step


def a_fragment(registers: NDArray[np.uint32], kind: str) -> NDArray[np.float32]:
    """Return A, (tiles, 16, k), from the registers of its lanes, (tiles, 8 groups, 4 lanes, registers)."""
    tiles = registers.shape[0]
    if kind == "tf32":
        return DECODED[kind](registers).reshape(tiles, 8, 4, 2, 2).transpose(0, 4, 1, 3, 2).reshape(tiles, 16, 8)
    pairs = DECODED[kind](np.ascontiguousarray(registers).view(_HALF)).reshape(tiles, 8, 4, 2, 2, 2)
    return pairs.transpose(0, 4, 1, 3, 2, 5).reshape(tiles, 16, 16)  # row half, group, k half, lane, pair


def _b_fragment(registers: NDArray[np.uint32], kind: str) -> NDArray[np.float32]:
    """Return B, (tiles, k, 8), from the registers of its lanes."""
    tiles = registers.shape[0]
    if kind == "tf32":
        return DECODED[kind](registers).transpose(0, 3, 2, 1).reshape(tiles, 8, 8)
    pairs = DECODED[kind](np.ascontiguousarray(registers).view(_HALF)).reshape(tiles, 8, 4, 2, 2)
    return pairs.transpose(0, 3, 2, 4, 1).reshape(tiles, 16, 8)


def fragments(machine: Machine, registers: list[Any]) -> NDArray[Any]:
    """Return registers of all lanes, (warps, 8 groups, 4 lanes, registers)."""
    return np.stack([machine.by_warp(register).reshape(-1, 8, 4) for register in registers], -1)


def _multiply(program: Program, instruction: Instruction) -> Step:
    """Multiply tiles of 16 × k and k × 8 and add a tile, each in the registers of a warp."""
    shape, kind = instruction.parts[3], instruction.parts[-2]
    wanted = f"mma.sync.aligned.{'m16n8k8' if kind == 'tf32' else 'm16n8k16'}.row.col.f32.{kind}.{kind}.f32"
    if instruction.opcode != wanted or kind not in DECODED:
        raise PtxError(f"unknown: {instruction} ({shape})")
    to, *sources = (elements(operand) for operand in instruction.operands)
    writers = [program.writer(name) for name in to]
    a, b, c = (
        [program.reader(name, register) for name in names]
        for names, register in zip(sources, ("b32", "b32", "f32"), strict=True)
    )

    def step(machine: Machine, mask: Mask) -> None:
        machine.whole_warps(mask, instruction)
        A = a_fragment(fragments(machine, [read(machine) for read in a]), kind)
        B = _b_fragment(fragments(machine, [read(machine) for read in b]), kind)
        warps = len(A)
        C = fragments(machine, [read(machine) for read in c]).reshape(warps, 8, 4, 2, 2)
        C = C.transpose(0, 3, 1, 2, 4).reshape(warps, 16, 8)
        D = (A.astype(np.float64) @ B.astype(np.float64) + C).astype(np.float32)
        D = D.reshape(warps, 2, 8, 4, 2).transpose(1, 4, 0, 2, 3).reshape(4, machine.threads)
        for give, part in zip(writers, D, strict=True):
            give(machine, part, mask)

    return step


HANDLERS = {"ldmatrix": _load_matrices, "stmatrix": _store_matrices, "mma": _multiply}
