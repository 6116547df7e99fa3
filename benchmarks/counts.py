"""What every operation costs on a GPU, counted without one.

The launches of an operation are found by running it on tensors that hold nothing (`launches`). Of each kernel some
programs are executed (`ptx`), which counts bytes, sectors and turns of loops; its machine code gives instructions and
registers; PyTorch's own operations are taken at the bytes and products of their operands. `h200` makes a predicted time
of it. Beside each operation stands what it replaces: the layers unfused, and GELU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import h200
from benchmarks.aot import Launch, compile_launch, disassemble, listing
from benchmarks.counted import COMPETITORS, Subject, subjects
from benchmarks.launches import LibraryOperation, launched
from benchmarks.machine_code import executed
from ptx import Counts, Options, launch
from ptx.driver import extent
from ptx.launch import translated

SAMPLED = 4
"""Programs of each grid that are executed."""


def run(target: str = "sm_90", dtype: torch.dtype = torch.bfloat16, only: str = "") -> Iterator[dict[str, Any]]:
    """Yield a row for every kernel and library operation of every subject, and one for each subject as a whole."""
    chosen = [(U, subject) for U in COMPETITORS for subject in subjects(U) if subject.operation.startswith(only)]
    for competitors, subject in tqdm(chosen, desc="counting", unit="operation"):
        found = launched(subject.call, dtype, target)
        parts = [_counted(one, target) for one in found.launches]
        shared = {"target": target, "dtype": str(dtype).removeprefix("torch."), "competitors": competitors}
        for name in dict.fromkeys(part.kernel for part in parts):
            yield _row(subject, name, [part for part in parts if part.kernel == name], found.least_bytes, shared)
        yield _row(subject, "total", parts, found.least_bytes, shared)


REPEATED = 1 << 20


class Part(NamedTuple):
    """Counts of one launch, of all its programs."""

    kernel: str
    bytes: float
    """Bytes that threads asked for."""
    sectors: float
    """Sectors of 32 bytes that they touched."""
    instructions: float
    """Threads' instructions."""
    conflicts: float
    """Passes over shared memory that bank conflicts cost."""
    barriers: float
    """Barriers that warps arrived at."""
    registers: int | None
    programs: int | None
    """Programs that a multiprocessor holds."""
    seconds: float


def _counted(one: Launch | LibraryOperation, target: str) -> Part:
    if isinstance(one, LibraryOperation):
        seconds = h200.library_seconds(one.bytes, one.operations, one.dtype)
        return Part(f"torch.{one.name}", one.bytes, one.bytes / 32, 0, 0, 0, None, None, seconds)
    return _kernel(_Key.of(one), target)


class _Key(NamedTuple):
    """A launch as far as its counts depend on it, to count the same but once."""

    name: str
    arguments: tuple[Any, ...]
    launch: Launch

    @classmethod
    def of(cls, one: Launch) -> _Key:
        described = tuple(
            (name, (tuple(value.shape), value.stride(), value.dtype) if isinstance(value, Tensor) else value)
            for name, value in one.arguments.items()
        )
        return cls(one.name, (one.grid, described), one)

    def __hash__(self) -> int:
        return hash((self.name, self.arguments))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and (self.name, self.arguments) == (other.name, other.arguments)


@cache
def _kernel(key: _Key, target: str) -> Part:
    one = key.launch
    kernel = compile_launch(one, target)
    counts, share = _execute(one, kernel)
    instructions = executed(listing(kernel), translated(kernel.asm["ptx"]), counts)
    sass, shared = disassemble(kernel), kernel.metadata.shared
    warps = int(one.options["num_warps"])
    programs = h200.programs_per_multiprocessor(sass.registers, shared, warps)
    moved = (counts.load.asked + counts.store.asked) / share
    sectors = (counts.load.sectors + counts.store.sectors) / share
    threads = Counter({name: number * 32 / share for name, number in instructions.items()})
    least = sum(value.numel() * value.element_size() for value in one.arguments.values() if isinstance(value, Tensor))
    products, kind = _products(counts)
    return Part(
        one.name, moved, sectors, sum(threads.values()),
        (counts.shared_load.conflicts + counts.shared_store.conflicts) / share, counts.barriers / share,
        sass.registers, programs,
        h200.kernel_seconds(least, 32 * sectors, h200.pipes(threads), products / share, kind, programs),
    )  # fmt: skip


def _execute(one: Launch, kernel: Any) -> tuple[Counts, float]:
    """Execute some programs of a launch, evenly spread, and return their counts and their share of all programs."""
    total = 1
    for length in one.grid:
        total *= length
    sampled = min(SAMPLED, total)
    numbers = [int((k + 0.5) * total / sampled) for k in range(sampled)]
    arguments, tensors = [], []
    for name, kind in kernel.src.signature.items():
        value = one.arguments[name]
        if kind == "constexpr":
            continue
        if isinstance(value, Tensor):
            tensors.append(_filled(value, int(one.arguments.get("U", 1))))
            value = tensors[-1].data_ptr()
        arguments.append(value)
    options = Options(checked=False, counted=True)
    spans = [extent(tensor) for tensor in tensors]
    text = kernel.asm["ptx"]
    return launch(text, one.grid, arguments, spans, kernel.metadata.shared, options, numbers), sampled / total


def _filled(like: Tensor, competitors: int) -> Tensor:
    """Return a tensor of this form on the CPU: noise, indices of competitors where it is of small integers, or 0.

    A million numbers are drawn, and repeated.
    """
    dtype = like.dtype
    some = torch.empty(min(like.numel(), REPEATED), dtype=dtype)
    if dtype.is_floating_point:
        some.normal_()
    elif dtype in (torch.uint8, torch.uint16, torch.uint32):
        some.random_(0, competitors)
    else:
        some.zero_()
    out = torch.empty_strided(tuple(like.shape), like.stride(), dtype=dtype)
    memory = out.as_strided((like.numel(),), (1,))  # operands of kernels are dense
    for part in memory.split(REPEATED):
        part.copy_(some[: len(part)])
    return out


def _products(counts: Counts) -> tuple[float, str]:
    """Return multiplications and additions on the matrix units, and the type that they are in."""
    total, kind = 0.0, "bfloat16"
    for opcode, number in counts.instructions().items():
        if opcode.startswith("mma.sync"):
            shape, tf32 = (16, 8, 8 if "tf32" in opcode else 16), "tf32" in opcode
            total += 2 * shape[0] * shape[1] * shape[2] * number
        elif opcode.startswith("wgmma.mma_async"):
            columns = int(opcode.split(".n")[0].split("m64n")[-1].split("k")[0])
            tf32 = "tf32" in opcode
            total += 2 * 64 * columns * (8 if tf32 else 16) * number / 4  # four warps share one
        else:
            continue
        kind = "tf32" if tf32 else kind
    return total, kind


def _row(subject: Subject, name: str, parts: list[Part], least_bytes: int, shared: dict[str, Any]) -> dict[str, Any]:
    elements = subject.elements
    moved = sum(part.bytes for part in parts)
    return {
        "operation": subject.operation,
        "pass": subject.direction,
        "kernel": name,
        **shared,
        "shape": list(subject.shape),
        "launches": len(parts),
        "instructions_per_element": round(sum(part.instructions for part in parts) / elements, 2),
        "bytes_per_element": round(moved / elements, 3),
        "least_bytes_per_element": round(least_bytes / elements, 3),
        "sectors_per_byte": round(sum(part.sectors for part in parts) / max(moved, 1), 4),
        "conflicts_per_element": round(sum(part.conflicts for part in parts) / elements, 4),
        "barriers_per_element": round(sum(part.barriers for part in parts) / elements, 5),
        "registers": max((part.registers for part in parts if part.registers), default=None),
        "programs_per_multiprocessor": min((part.programs for part in parts if part.programs), default=None),
        "predicted_us": round(1e6 * sum(part.seconds for part in parts), 1),
    }
