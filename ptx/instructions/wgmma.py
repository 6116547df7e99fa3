"""Asynchronous matrix products of four warps (Hopper's `wgmma`): A in registers or shared memory, B in shared memory.

An operand in shared memory is given by a descriptor (PTX ISA, "Matrix Descriptor Format") and stored in swizzled rows.
The product is computed at once, but until it is waited for nothing may write its operands or use its result.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptx.accumulators import Accumulators, differ
from ptx.errors import PtxError
from ptx.groups import Operation
from ptx.instructions.matrices import DECODED, a_fragment, fragments
from ptx.machine import WARP
from ptx.numbers import Array
from ptx.parsing import Instruction, elements
from ptx.program import Mask, Program, Step
from ptx.shared_memory import SEVERAL
from ptx.trace import Fenced, Waited

if TYPE_CHECKING:
    from ptx.machine import Machine

GROUP = 128
"""Threads of a warp group."""

K_BYTES = 32
"""Bytes of an operand along k."""

_PITCH = np.array([16, 128, 64, 32])
"""Bytes of a swizzled row, by the descriptor's mode."""


@dataclass(frozen=True)
class Product(Operation):
    """What a product under way reads; its units are warp groups."""

    index: NDArray[np.int64]
    """First byte in shared memory of each element, (groups, elements)."""
    size: int
    """Bytes of an element."""
    fragment: NDArray[np.uint32]
    """What the registers of A hold, (groups, registers, threads of a group); none if A is in shared memory."""
    registers: tuple[int, ...]
    """Numbers of the registers of A."""
    results: tuple[int, ...]
    """Numbers of the registers of D."""


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
        return lambda machine, mask: machine.products.commit(_whole_groups(machine, mask, instruction))
    if rest[0] == "wait_group":
        last = int(instruction.operands[0], 0)
        return lambda machine, mask: _wait(machine, _whole_groups(machine, mask, instruction), last, instruction)
    if rest[0] == "fence":
        return _order_registers
    return _multiply(program, instruction, _form(instruction))


def _order_registers(machine: Machine, mask: Mask) -> None:
    """Note what the registers hold: products must use them after such a fence (`wgmma.fence`)."""
    machine.fenced = list(machine.registers)


def _multiply(program: Program, instruction: Instruction, form: _Form) -> Step:
    """D = A·B + D, 64 × columns, or A·B if the scale is false."""
    to, a = elements(instruction.operands[0]), elements(instruction.operands[1])
    numbers = tuple(map(program.number, to))
    read_a = [program.reader(name, "b32" if len(a) > 1 else "b64") for name in a]
    of_a = tuple(map(program.number, a)) if len(a) > 1 else ()
    read_b, read_scale = program.reader(instruction.operands[2], "b64"), program.reader(instruction.operands[3], "pred")
    if len(to) != form.columns // 2:
        raise PtxError(f"unknown: {instruction}")

    def step(machine: Machine, mask: Mask) -> None:
        live = _whole_groups(machine, mask, instruction)
        _require_fence(machine, (*numbers, *of_a), machine.active(mask), instruction)
        fragment = (
            np.stack([machine.each(read(machine)) for read in read_a]) if of_a else np.zeros((0, machine.threads))
        )
        b = _tile(machine, read_b(machine), form.columns, form.size, form.b_transposed, live, instruction)
        tiles = [b]
        if of_a:
            A = a_fragment(fragments(machine, list(fragment)), form.kind)
            A = A.reshape(live.size, 64, -1)  # four warps, sixteen rows each
        else:
            a = _tile(machine, read_a[0](machine), 64, form.size, form.a_transposed, live, instruction)
            tiles.append(a)
            A = _fetch(machine, a, form)
        _begin(machine, tiles, form, fragment, (of_a, numbers), live, instruction)
        B = _fetch(machine, b, form)
        accumulators = _accumulators(machine, numbers, live.size)
        C = fragments(machine, list(accumulators.values.view(np.float32)))
        C = C.reshape(-1, 8, 4, form.columns // 8, 2, 2).transpose(0, 4, 1, 3, 2, 5).reshape(-1, 64, form.columns)
        keeps = machine.each(read_scale(machine)).reshape(-1, GROUP)[:, 0]
        product = A.astype(np.float64) @ B.astype(np.float64).transpose(0, 2, 1)
        D = (product + np.where(keeps[:, None, None], C, 0)).astype(np.float32)
        D = D.reshape(-1, 2, 8, form.columns // 8, 4, 2).transpose(3, 1, 5, 0, 2, 4).reshape(len(to), machine.threads)
        accumulators.write(D.view(np.uint32), live, machine.products.committed)

    return step


def _require_fence(machine: Machine, numbers: tuple[int, ...], active: NDArray[np.bool_], where: object) -> None:
    """Require that registers were last written before a fence of registers."""
    if not machine.fenced:
        raise PtxError(f"{where}: no wgmma.fence before it")
    changed = differ(machine.fenced, machine.registers, numbers, active)
    if changed:
        raise PtxError(f"{where}: no wgmma.fence after the last write of {machine.program.register(changed[0])}")


def _accumulators(machine: Machine, numbers: tuple[int, ...], units: int) -> Accumulators:
    """Return the registers of a result, under way from now on if they are not yet."""
    found = machine.accumulators.get(numbers)
    if found is None:
        found = machine.accumulators[numbers] = Accumulators(machine, numbers, units)
    else:
        found.take()
    return found


def _whole_groups(machine: Machine, mask: Mask, where: object) -> NDArray[np.bool_]:
    """Return which warp groups are active, all of their warps or none."""
    warps = machine.whole_warps(mask, where).reshape(-1, GROUP // 32)
    if (warps != warps[:, :1]).any():
        raise PtxError(f"{where}: part of a warp group takes part")
    return warps[:, 0]


def _fetch(machine: Machine, index: NDArray[np.int64], form: _Form) -> NDArray[np.float32]:
    """Read an operand from shared memory, (groups, rows, k)."""
    return DECODED[form.kind](machine.shared.view(np.dtype(f"u{form.size}"))[index // form.size])


def _begin(
    machine: Machine,
    tiles: list[NDArray[np.int64]],
    form: _Form,
    fragment: NDArray[Any],
    registers: tuple[tuple[int, ...], tuple[int, ...]],
    live: NDArray[np.bool_],
    where: Instruction,
) -> None:
    """Note that a product is under way, with registers of A and of D: what it reads must stay as it is."""
    units = np.flatnonzero(live)
    index = np.concatenate([tile.reshape(live.size, -1) for tile in tiles], 1)[units]
    held = fragment.reshape(len(registers[0]), live.size, GROUP).transpose(1, 0, 2)[units]
    product = Product(units, machine.products.committed[units], index, form.size, held, *registers)
    _touch(machine, product, where)
    machine.shared.begin_read(index, form.size, machine.warp[units * GROUP], where)
    machine.products.add(product)


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
    if (mode[live] == 0).any() or _field(bits, 49, 3)[live].any():
        raise PtxError(f"{where}: an operand without swizzle, or with a base offset")
    pitch = _PITCH[mode][:, None, None]
    start, lead, stride = (x[:, None, None] for x in (start, lead, stride))
    row, k = np.arange(rows)[None, :, None], np.arange(K_BYTES // size)[None, None, :]
    if transposed:
        across = pitch // size
        at = start + row // across * lead + k // 8 * stride + k % 8 * pitch + row % across * size
    else:
        at = start + row // 8 * stride + row % 8 * pitch + k * size
    at = at ^ (((at >> 7) & (pitch // 16 - 1)) << 4)
    machine.shared.require(at[live], size, size, where)
    base = machine.shared_start.reshape(-1, GROUP)[:, 0][:, None, None]
    return np.where(live[:, None, None], at + base, 0)


def _field(bits: NDArray[np.uint64], low: int, length: int) -> NDArray[np.int64]:
    return ((bits >> np.uint64(low)) & np.uint64((1 << length) - 1)).astype(np.int64)


def _touch(machine: Machine, product: Product, where: Instruction) -> None:
    """Note that all warps of the groups that take part read the operands."""
    interval = machine.interval.reshape(-1, GROUP)[product.units, 0]
    count = product.index.shape[1]
    warps = np.full(product.index.size, SEVERAL, np.int16)
    machine.shared.touch(product.index.ravel(), product.size, warps, np.repeat(interval, count), False, where)


def _wait(machine: Machine, live: NDArray[np.bool_], last: int, where: Instruction) -> None:
    """Complete all groups of products but the last few; their operands are read until now."""
    before = machine.products.closed_before(live, last)
    finished = machine.products.finish(live, last)
    machine.note(Waited(where, live, machine.products.committed.copy(), last, finished))
    for product in finished:
        machine.shared.end_read(product.index, product.size)
        _touch(machine, product, where)
        for k, number in enumerate(product.registers):
            now = machine.each(np.asarray(machine.registers[number])).reshape(-1, GROUP)[product.units]
            if (now != product.fragment[:, k]).any():
                raise PtxError(f"{where}: {machine.program.register(number)} is written while a product reads it")
    for numbers, accumulators in list(machine.accumulators.items()):
        if accumulators.finish(before):
            del machine.accumulators[numbers]
            for number in numbers:
                machine.fenced[number] = machine.registers[number]


def _fence(program: Program, instruction: Instruction) -> Step:
    """Order what threads have written to shared memory, or seen of it, before products that they begin later."""
    if instruction.opcode not in ("fence.proxy.async.shared::cta", "fence.proxy.async"):
        raise PtxError(f"unknown: {instruction}")

    def step(machine: Machine, mask: Mask) -> None:
        threads = np.flatnonzero(np.repeat(machine.whole_warps(mask, instruction), WARP))[::WARP]
        machine.note(Fenced(instruction))
        machine.shared.fence(machine.shared_start[threads], machine.warp[threads], machine.interval[threads])

    return step


HANDLERS = {"wgmma": _product, "fence": _fence}
