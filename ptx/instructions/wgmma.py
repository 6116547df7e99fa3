"""Asynchronous matrix products of four warps (Hopper's `wgmma`): A in registers or shared memory, B in shared memory.

An operand in shared memory is given by a descriptor (PTX ISA, "Matrix Descriptor Format") and stored in swizzled rows.
The product is computed at once; its operands count as read until it is waited for, so that a write in between is a
hazard.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptx.errors import PtxError
from ptx.instructions.matrices import DECODED, a_fragment, fragments
from ptx.numbers import Array
from ptx.parsing import Instruction, elements
from ptx.program import Mask, Program, Step

if TYPE_CHECKING:
    from ptx.machine import Machine

GROUP = 128
"""Threads of a warp group."""

K_BYTES = 32
"""Bytes of an operand along k."""

_PITCH = np.array([16, 128, 64, 32])
"""Bytes of a swizzled row, by the descriptor's mode."""


@dataclass(frozen=True)
class Operand:
    """Bytes of shared memory that a product under way reads."""

    index: NDArray[np.int64]
    """First byte of each element, (groups, elements)."""
    size: int
    """Bytes of an element."""
    live: NDArray[np.bool_]
    """Groups that take part."""


class _Form(NamedTuple):
    """Form of a product."""

    columns: int
    kind: str
    a_transposed: bool
    b_transposed: bool

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return 4 if self.kind == "tf32" else 2


def _form(instruction: Instruction) -> _Form:
    """Return the form of a product.

    Raises:
        PtxError: it is not known.
    """
    found = re.fullmatch(r"wgmma\.mma_async\.sync\.aligned\.m64n(\d+)k(\d+)\.f32\.(\w+)\.(\w+)", instruction.opcode)
    if found is None or found.group(3) != found.group(4) or found.group(3) not in DECODED:
        raise PtxError(f"unknown: {instruction}")
    flags = instruction.operands[4:]
    if flags[:2] != ("1", "1"):
        raise PtxError(f"a product with a negative factor: {instruction}")
    transposed = [flag == "1" for flag in flags[2:]]
    form = _Form(
        int(found.group(1)), found.group(3), len(transposed) == 2 and transposed[0], bool(transposed and transposed[-1])
    )
    if int(found.group(2)) != K_BYTES // form.size:
        raise PtxError(f"unknown: {instruction}")
    return form


def _product(program: Program, instruction: Instruction) -> Step:
    rest = instruction.parts[1:]
    if rest[0] == "commit_group":
        return lambda machine, mask: machine.products.append([])
    if rest[0] == "wait_group":
        last = int(instruction.operands[0], 0)
        return lambda machine, mask: _wait(machine, last, instruction)
    if rest[0] == "fence":
        return lambda machine, mask: None  # orders registers, which nothing here uses out of order
    return _multiply(program, instruction, _form(instruction))


def _multiply(program: Program, instruction: Instruction, form: _Form) -> Step:
    """D = A·B + D, 64 × columns, or A·B if the scale is false."""
    to, a = elements(instruction.operands[0]), elements(instruction.operands[1])
    writers, readers = [program.writer(name) for name in to], [program.reader(name, "f32") for name in to]
    read_a = [program.reader(name, "b32" if len(a) > 1 else "b64") for name in a]
    read_b, read_scale = program.reader(instruction.operands[2], "b64"), program.reader(instruction.operands[3], "pred")
    if len(to) != form.columns // 2:
        raise PtxError(f"unknown: {instruction}")

    def step(machine: Machine, mask: Mask) -> None:
        live = _whole_groups(machine, mask, instruction)
        if len(read_a) > 1:
            A = a_fragment(fragments(machine, [read(machine) for read in read_a]), form.kind)
            A = A.reshape(live.size, 64, -1)  # four warps, sixteen rows each
        else:
            A = _fetch(machine, read_a[0](machine), 64, form, form.a_transposed, live, instruction)
        B = _fetch(machine, read_b(machine), form.columns, form, form.b_transposed, live, instruction)
        C = fragments(machine, [read(machine) for read in readers])
        C = C.reshape(-1, 8, 4, form.columns // 8, 2, 2).transpose(0, 4, 1, 3, 2, 5).reshape(-1, 64, form.columns)
        keeps = machine.each(read_scale(machine)).reshape(-1, GROUP)[:, 0]
        product = A.astype(np.float64) @ B.astype(np.float64).transpose(0, 2, 1)
        D = (product + np.where(keeps[:, None, None], C, 0)).astype(np.float32)
        D = D.reshape(-1, 2, 8, form.columns // 8, 4, 2).transpose(3, 1, 5, 0, 2, 4).reshape(len(to), machine.threads)
        for write, part in zip(writers, D, strict=True):
            write(machine, part, mask)

    return step


def _whole_groups(machine: Machine, mask: Mask, where: object) -> NDArray[np.bool_]:
    """Return which warp groups are active, all of their warps or none."""
    warps = machine.whole_warps(mask, where).reshape(-1, GROUP // 32)
    if (warps != warps[:, :1]).any():
        raise PtxError(f"{where}: part of a warp group takes part")
    return warps[:, 0]


def _fetch(
    machine: Machine,
    descriptor: Array,
    rows: int,
    form: _Form,
    transposed: bool,
    live: NDArray[np.bool_],
    where: object,
) -> NDArray[np.float32]:
    """Read an operand from shared memory, (groups, rows, k)."""
    index = _tile(machine, descriptor, rows, form.size, transposed, live, where)
    operand = Operand(index.reshape(live.size, -1), form.size, live)
    _touch(machine, operand, where)
    machine.products[-1].append(operand)
    words = machine.shared.view(np.dtype(f"u{form.size}"))[index // form.size]
    return DECODED[form.kind](words)


def _tile(
    machine: Machine,
    descriptor: Array,
    rows: int,
    size: int,
    transposed: bool,
    live: NDArray[np.bool_],
    where: object,
) -> NDArray[np.int64]:
    """Return the byte in shared memory of each element of an operand, (groups, rows, k)."""
    whole = machine.each(descriptor).reshape(-1, GROUP)
    if (whole[live] != whole[live][:, :1]).any():
        raise PtxError(f"{where}: threads of a group differ in the descriptor")
    bits = whole[:, 0].astype(np.uint64)
    start, lead, stride = (_field(bits, low, 14) << 4 for low in (0, 16, 32))
    mode = _field(bits, 62, 2)
    if (mode[live] == 0).any():
        raise PtxError(f"{where}: an operand without swizzle")
    pitch = _PITCH[mode][:, None, None]
    start, lead, stride = (x[:, None, None] for x in (start, lead, stride))
    row, k = np.arange(rows)[None, :, None], np.arange(K_BYTES // size)[None, None, :]
    if transposed:
        across = pitch // size
        at = start + row // across * lead + k // 8 * stride + k % 8 * pitch + row % across * size
    else:
        at = start + row // 8 * stride + row % 8 * pitch + k * size
    at = at ^ (((at >> 7) & (pitch // 16 - 1)) << 4)
    if (at[live] + size > machine.shared.size).any():
        raise PtxError(f"{where}: outside shared memory of {machine.shared.size} bytes")
    base = machine.shared_start.reshape(-1, GROUP)[:, 0][:, None, None]
    return np.where(live[:, None, None], at + base, 0)


def _field(bits: NDArray[np.uint64], low: int, length: int) -> NDArray[np.int64]:
    return ((bits >> np.uint64(low)) & np.uint64((1 << length) - 1)).astype(np.int64)


def _touch(machine: Machine, operand: Operand, where: object) -> None:
    """Note that every warp of the groups that take part reads an operand."""
    warps = machine.warp.reshape(-1, GROUP // 32, 32)[:, :, 0]
    interval = machine.interval.reshape(-1, GROUP // 32, 32)[:, :, 0]
    elements_of = operand.index[operand.live]
    flat, count = elements_of.ravel(), elements_of.shape[1]
    for k in range(GROUP // 32):
        machine.shared.touch(
            flat,
            operand.size,
            np.repeat(warps[operand.live, k], count),
            np.repeat(interval[operand.live, k], count),
            False,
            where,
        )


def _wait(machine: Machine, last: int, where: object) -> None:
    """Complete all groups of products but the last few; their operands are read until now."""
    done = max(len(machine.products) - 1 - last, 0)
    for group in machine.products[:done]:
        for operand in group:
            _touch(machine, operand, where)
    machine.products = machine.products[done:]


def _fence(program: Program, instruction: Instruction) -> Step:
    """Do nothing: writes are seen by whatever reads them later. Missing fences are not found."""
    if instruction.opcode not in ("fence.proxy.async.shared::cta", "fence.proxy.async"):
        raise PtxError(f"unknown: {instruction}")
    return lambda machine, mask: None


HANDLERS = {"wgmma": _product, "fence": _fence}
