"""The model of an H200 behind every predicted time, stated once.

A launch takes as long as what it needs most of: memory, the second-level cache, the fullest pipe of its
multiprocessors, or the matrix units. Where a multiprocessor holds one program at a time, a program's product and its
other instructions follow one another, so that their times add up; where it holds more, those of different programs
overlap. Nothing here has been compared with the hardware: predictions rank variants, they do not promise times.
"""

from __future__ import annotations

import re
from collections import Counter

MULTIPROCESSORS = 132
CLOCK = 1.98e9
"""Cycles a second."""

MEMORY = 0.9 * 4.3e12
"""Bytes a second: 4.3·10¹² for a copy, of which kernels mostly reach nine tenths."""

CACHE = 5.5e12
"""Bytes a second from the second-level cache."""

PRODUCTS = {"bfloat16": 700e12, "float16": 700e12, "float32": 50e12, "tf32": 350e12}
"""Operations a second of matrix products: what large products of the library reach, and float32 without TF32."""

ISSUE_EFFICIENCY = 0.85
"""Share of the cycles in which a multiprocessor's schedulers find something to issue."""

LANES = {"issue": 128, "alu": 64, "imad": 64, "xu": 16}
"""Threads' instructions a cycle and multiprocessor: in all, and by pipe."""

REGISTERS, SHARED, THREADS, PROGRAMS = 65536, 233472, 2048, 32
"""Limits of a multiprocessor."""

_PIPES = {
    "xu": r"MUFU|I2F(?!P)|F2I|POPC|FLO|BREV",
    "imad": r"IMAD|IDP",
    "alu": r"LOP3|IADD|SEL|FSEL|FSETP|ISETP|PLOP3|FMNMX|IMNMX|VIMNMX|PRMT|SHF|I2FP|F2FP|LEA|SGXT|BMSK|MOV|P2R|R2P",
}


def pipes(instructions: Counter[str]) -> Counter[str]:
    """Return the instructions of each pipe, from those of the machine code by full name; all of them are issued."""
    out: Counter[str] = Counter()
    for name, number in instructions.items():
        out["issue"] += number
        for pipe, pattern in _PIPES.items():
            if re.match(pattern, name):
                out[pipe] += number
                break
    return out


def programs_per_multiprocessor(registers: int, shared: int, warps: int) -> int:
    """Return how many programs a multiprocessor holds, from registers of a thread, bytes and warps of a program."""
    by_registers = REGISTERS // (-(-registers // 8) * 8 * 32 * warps)
    by_shared = SHARED // (shared + 1024)
    return max(min(by_registers, by_shared, THREADS // (32 * warps), PROGRAMS), 1)


def kernel_seconds(
    memory_bytes: float, cache_bytes: float, by_pipe: Counter[str], product_operations: float, dtype: str, programs: int
) -> float:
    """Return the predicted time of a kernel.

    Args:
        memory_bytes: bytes that must come from memory or go there, each once.
        cache_bytes: bytes of the sectors that its instructions touch.
        by_pipe: threads' instructions by pipe.
        product_operations: multiplications and additions of its matrix products.
        dtype: their type.
        programs: programs that a multiprocessor holds.
    """
    cycles = max((by_pipe[pipe] / LANES[pipe] for pipe in LANES), default=0.0)
    busy = cycles / (MULTIPROCESSORS * CLOCK * ISSUE_EFFICIENCY)
    product = product_operations / PRODUCTS[dtype]
    computing = busy + product if programs == 1 else max(busy, product)
    return max(memory_bytes / MEMORY, cache_bytes / CACHE, computing)


def library_seconds(memory_bytes: float, product_operations: float, dtype: str) -> float:
    """Return the predicted time of one of PyTorch's own operations."""
    return max(memory_bytes / MEMORY, product_operations / PRODUCTS.get(dtype, PRODUCTS["float32"]))
