"""Products of four warps (`wgmma`) written by hand in PTX: 64 × 8, of operands in shared memory or of ones."""

from __future__ import annotations

MODES = {128: 1, 64: 2, 32: 3}
"""Mode in a descriptor by the bytes of a swizzled row."""


def descriptor(start: int, leading: int, stride: int, pitch: int) -> str:
    """Descriptor of an operand in shared memory."""
    return hex(start >> 4 | leading >> 4 << 16 | stride >> 4 << 32 | MODES[pitch] << 62)


LANES = ".reg .b32 %d<4>; .reg .b32 %f<4>; .reg .b64 %da, %db;"
"""Registers: of D, of A, and descriptors."""
FENCES = "bar.sync 0; fence.proxy.async.shared::cta; wgmma.fence.sync.aligned;"
"""What orders memory and registers before a product."""
DONE = "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;"
"""Wait for all products."""
START = "mov.b32 %d0, 0; mov.b32 %d1, 0; mov.b32 %d2, 0; mov.b32 %d3, 0; setp.eq.b32 %p, %t, %t;"
"""D of zeros, to be added to."""
STORE = (
    "ld.param.u64 %at, [p1]; mul.wide.u32 %offset, %t, 16; add.s64 %address, %at, %offset;"
    "st.global.v4.b32 [%address], {%d0, %d1, %d2, %d3};"
)
"""D of each thread to the second parameter."""


def fill(words: int) -> str:
    """Text that fills shared memory from the first parameter."""
    start = "mov.u32 %t, %tid.x; shl.b32 %s, %t, 2; ld.param.u64 %at, [p0]; cvt.u64.u32 %offset, %s; "
    copies = [
        f"ld.global.b32 %i, [%address + {512 * k}]; st.shared.b32 [%s + {512 * k}], %i;" for k in range(words // 128)
    ]
    return start + "add.s64 %address, %at, %offset;" + " ".join(copies)


def multiply(kind: str, a: str, b: str, flags: str) -> str:
    """Text of a product."""
    depth = 8 if kind == "tf32" else 16
    return (
        f"mov.b64 %db, {b}; " + (f"mov.b64 %da, {a}; " if a.startswith("0x") else "")
        + f"wgmma.mma_async.sync.aligned.m64n8k{depth}.f32.{kind}.{kind} {{%d0, %d1, %d2, %d3}}, "
        + f"{'%da' if a.startswith('0x') else a}, %db, %p, 1, 1{flags};"
    )  # fmt: skip


A_OF_ONES = "mov.b32 %f0, 0x3F803F80; mov.b32 %f1, %f0; mov.b32 %f2, %f0; mov.b32 %f3, %f0; "
ONES, B_HERE = "{%f0, %f1, %f2, %f3}", descriptor(0, 16, 1024, 128)
TIMES_ONES = multiply("bf16", ONES, B_HERE, ", 0")
BEGIN = A_OF_ONES + START + FENCES
"""After `fill`: the matrix of ones, and the fences; then comes TIMES_ONES, a product with B at byte 0."""
