"""Products of four warps against definitions that know layouts from CUTLASS's tables; what they must wait for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptx import PtxError
from tests.support.assembly import run
from tests.support.products import (
    B_HERE,
    BEGIN,
    DONE,
    FENCES,
    LANES,
    ONES,
    START,
    STORE,
    TIMES_ONES,
    descriptor,
    fill,
    multiply,
)

ROWS, COLUMNS, DEPTH = 64, 8, 16
Place = Callable[[int, int], int]
"""Byte of an element, by its row (of A; column of B) and its place along k."""


def canonical(pitch: int, leading: int, stride: int, along_k: bool, size: int) -> Place:
    """Layouts of `cute`'s make_gmma_desc, in bytes; T elements are 16 bytes, and a row of ``pitch`` bytes has P·T.

    K-major    Swizzle ∘ ((8, m), (T, 2)) : ((P·T, stride), (1, T))
    MN-major   Swizzle ∘ ((T, P, m), (8, k)) : ((1, T, leading), (P·T, stride))
    """
    across = pitch // size

    def place(row: int, k: int) -> int:
        if along_k:
            at = row % 8 * pitch + row // 8 * stride + k * size
        else:
            at = row % across * size + row // across * leading + k % 8 * pitch + k // 8 * stride
        return at ^ (at >> 7 & pitch // 16 - 1) << 4  # Swizzle<log2(P), 4, 3>

    return place


def image(size: int, *operands: tuple[int, Tensor, Place]) -> NDArray[np.uint32]:
    """Shared memory that holds operands, each from a byte on."""
    memory = np.zeros(size, np.uint8)
    for start, matrix, place in operands:
        for row, values in enumerate(matrix.contiguous().view(torch.uint8).view(len(matrix), matrix.shape[1], -1)):
            for k, element in enumerate(values):
                memory[start + place(row, k) :][: len(element)] = element.numpy()
    return memory.view(np.uint32)


def result(lanes: NDArray[np.uint32]) -> Tensor:
    """D, by the table for wgmma's accumulators, from the registers of 128 threads."""
    D = torch.zeros(ROWS, COLUMNS)
    for thread, registers in enumerate(torch.from_numpy(lanes.view(np.float32))):
        for i, value in enumerate(registers):
            D[thread // 32 * 16 + thread % 32 // 4 + i // 2 * 8, thread % 4 * 2 + i % 2] = value
    return D


def operands(kind: str, depth: int = DEPTH) -> tuple[Tensor, Tensor]:
    dtype = {"bf16": torch.bfloat16, "f16": torch.float16, "tf32": torch.float32}[kind]
    return torch.randint(-8, 9, (ROWS, depth)).to(dtype), torch.randint(-8, 9, (COLUMNS, depth)).to(dtype)


@pytest.mark.parametrize("pitch", [128, 64, 32])
@pytest.mark.parametrize(("a_along_k", "b_along_k"), [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("kind", ["bf16", "f16"])
def test_products_of_shared_memory(kind: str, a_along_k: bool, b_along_k: bool, pitch: int) -> None:
    A, B = operands(kind)
    a_stride = 8 * pitch if a_along_k else 8 * pitch * (ROWS * 2 // pitch)
    places = [
        canonical(pitch, 8 * pitch, a_stride, a_along_k, 2),
        canonical(pitch, 8 * pitch, 8 * pitch, b_along_k, 2),
    ]
    shared = image(16384, (0, A, places[0]), (8192, B, places[1]))
    out = np.zeros((128, 4), np.uint32)
    text = multiply(
        kind,
        descriptor(0, 8 * pitch, a_stride, pitch),
        descriptor(8192, 8 * pitch, 8 * pitch, pitch),
        f", {int(not a_along_k)}, {int(not b_along_k)}",
    )
    body = fill(len(shared)) + START + FENCES + text + DONE + STORE
    run(body, shared, out, threads=128, shared=16384, declarations=LANES)
    assert torch.equal(result(out), (A.double() @ B.double().t()).float())


@pytest.mark.parametrize("step", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["bf16", "tf32"])
def test_steps_along_k_begin_inside_a_swizzled_row(kind: str, step: int) -> None:
    depth = 8 if kind == "tf32" else DEPTH
    A, B = operands(kind, 4 * depth)
    place = canonical(128, 0, 1024, True, A.element_size())
    shared = image(16384, (0, A, place), (8192, B, place))
    out = np.zeros((128, 4), np.uint32)
    starts = [descriptor(start + 32 * step, 16, 1024, 128) for start in (0, 8192)]
    body = (
        fill(len(shared)) + START + FENCES + multiply(kind, *starts, "" if kind == "tf32" else ", 0, 0") + DONE + STORE
    )
    run(body, shared, out, threads=128, shared=16384, declarations=LANES)
    chosen = slice(step * depth, (step + 1) * depth)
    assert torch.equal(result(out), (A[:, chosen].double() @ B[:, chosen].double().t()).float())


SIMPLE = canonical(128, 0, 1024, True, 2)


def sums(body: str, threads: int = 128) -> tuple[Tensor, Tensor]:
    """D of a kernel that multiplies a matrix of ones with B, and what it must be."""
    _, B = operands("bf16")
    shared = image(1024, (0, B, SIMPLE))
    out = np.zeros((threads, 4), np.uint32)
    run(fill(256) + body, shared, out, threads=threads, shared=1024, declarations=LANES)
    return result(out), B.float().sum(1).expand(ROWS, COLUMNS)


def test_products_of_registers() -> None:
    """Elements of A by the table for wgmma: as for mma.m16n8k16, sixteen rows a warp."""
    A, B = operands("bf16")
    out = np.zeros((128, 4), np.uint32)
    lanes = torch.zeros(128, 8, dtype=torch.bfloat16)
    for thread in range(128):
        for i in range(8):
            row = thread // 32 * 16 + thread % 32 // 4 + i // 2 % 2 * 8
            lanes[thread, i] = A[row, thread % 4 * 2 + i % 2 + i // 4 * 8]
    load = (
        "ld.param.u64 %at, [p2]; mul.wide.u32 %offset, %t, 16; add.s64 %address, %at, %offset;"
        "ld.global.v4.b32 {%f0, %f1, %f2, %f3}, [%address];"
    )
    shared = image(1024, (0, B, SIMPLE))
    body = fill(256) + load + START + FENCES + TIMES_ONES + TIMES_ONES + DONE + STORE
    run(body, shared, out, lanes.view(torch.uint32).numpy(), threads=128, shared=1024, declarations=LANES)
    assert torch.equal(result(out), 2 * (A.double() @ B.double().t()).float())


def test_a_product_that_does_not_add() -> None:
    body = BEGIN.replace("mov.b32 %d0, 0;", "mov.b32 %d0, 0x40000000;")
    got, expected = sums(body + "setp.ne.b32 %p, %t, %t;" + TIMES_ONES + DONE + STORE)
    assert torch.equal(got, expected)


def test_one_result_after_another_product_without_waiting() -> None:
    """Products of one shape may follow each other in the same registers."""
    commit = "wgmma.commit_group.sync.aligned;"
    wait = "wgmma.wait_group.sync.aligned 1;"
    got, expected = sums(BEGIN + TIMES_ONES + commit + TIMES_ONES + commit + wait + TIMES_ONES + DONE + STORE)
    assert torch.equal(got, 3 * expected)


END = DONE + STORE
FAULTS = [
    (TIMES_ONES + DONE.replace("aligned 0", "aligned 1") + STORE, "d0 is used while an asynchronous product"),
    (TIMES_ONES + "wgmma.wait_group.sync.aligned 0;" + STORE, "is used while an asynchronous product"),
    (TIMES_ONES + "mov.b32 %d2, 0;" + END, "d2 is written while a product writes it"),
    (TIMES_ONES + "mov.b32 %f2, 0;" + END, "f2 is written while a product reads it"),
    (TIMES_ONES + "bar.sync 0; st.shared.b32 [%s], %t;" + END, "an asynchronous product is reading"),
    ("mov.b32 %d3, 1;" + TIMES_ONES + END, "no wgmma.fence after the last write of %d3"),
    ("mov.b32 %f3, 1;" + TIMES_ONES + END, "no wgmma.fence after the last write of %f3"),
    (multiply("bf16", ONES, hex(int(B_HERE, 0) | 1 << 49), ", 0") + END, "with a base offset"),
    (multiply("bf16", ONES, hex(int(B_HERE, 0) & ~(3 << 62)), ", 0") + END, "without swizzle"),
    (multiply("bf16", ONES, hex(int(B_HERE, 0) | 8), ", 0") + END, "outside shared memory of 1024"),
    ("setp.lt.u32 %q, %t, 64; @%q bra END;" + TIMES_ONES + DONE + "END: mov.b32 %i, 0;", "part of a warp group"),
]


@pytest.mark.parametrize(("body", "message"), FAULTS)
def test_faults_of_asynchronous_products(body: str, message: str) -> None:
    with pytest.raises(PtxError, match=message):
        sums(BEGIN + body)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("wgmma.fence.sync.aligned;", "no wgmma.fence before it"),
        ("fence.proxy.async.shared::cta;", "no fence orders before a product"),
        ("bar.sync 0;", "no barrier between"),
    ],
)
def test_what_must_precede_a_product(left_out: str, message: str) -> None:
    sums(BEGIN + TIMES_ONES + END)
    with pytest.raises(PtxError, match=message):
        sums(BEGIN.replace(left_out, "") + TIMES_ONES + END)


def test_a_fence_of_the_writer_counts_too_but_not_one_of_the_reader_before_the_barrier() -> None:
    ordered = BEGIN.replace("bar.sync 0; fence.proxy.async.shared::cta;", "fence.proxy.async.shared::cta; bar.sync 0;")
    got, expected = sums(ordered + TIMES_ONES + DONE + STORE)
    assert torch.equal(got, expected)
    reader = "setp.ge.u32 %q, %t, 128; @%q fence.proxy.async.shared::cta; bar.sync 0;"  # all writes are of warps 0 to 3
    late = BEGIN.replace("bar.sync 0; fence.proxy.async.shared::cta;", reader)
    multiply_there = "@!%q bra END; wgmma.fence.sync.aligned;" + TIMES_ONES + DONE + "END: mov.b32 %i, 0;"
    _, B = operands("bf16")
    shared = image(1024, (0, B, SIMPLE))
    writers = fill(256).replace("st.shared", "@%p st.shared").replace("shl.b32", "setp.lt.u32 %p, %t, 128; shl.b32")
    writers = writers.replace("ld.global", "@%p ld.global")
    with pytest.raises(PtxError, match="no fence orders before a product"):
        run(writers + late + multiply_there, shared, threads=256, shared=1024, declarations=LANES)
    after = late.replace("bar.sync 0;", "bar.sync 0; @%q fence.proxy.async.shared::cta;")
    run(writers + after + multiply_there, shared, threads=256, shared=1024, declarations=LANES)


def test_programs_that_take_different_ways_wait_for_their_own_products() -> None:
    """The second program begins a product while the first, which is further on, still writes to its registers."""
    body = (
        fill(256) + BEGIN
        + "mov.u32 %n, %ctaid.x; setp.eq.u32 %q, %n, 0; @%q bra FIRST;"
        + TIMES_ONES + "wgmma.commit_group.sync.aligned; bra.uni BOTH;"
        + "FIRST: mov.b32 %d0, 0x41000000; mov.b32 %d0, 0; mov.b32 %d1, %d0; wgmma.fence.sync.aligned;"
        + TIMES_ONES + DONE + TIMES_ONES + "wgmma.commit_group.sync.aligned;"
        + "BOTH: wgmma.wait_group.sync.aligned 0;"
        + "mad.lo.s32 %t, %n, 128, %t;" + STORE
    )  # fmt: skip
    _, B = operands("bf16")
    out = np.zeros((256, 4), np.uint32)
    run(body, image(1024, (0, B, SIMPLE)), out, threads=128, grid=(2,), shared=1024, declarations=LANES)
    expected = B.float().sum(1).expand(ROWS, COLUMNS)
    assert torch.equal(result(out[:128]), 2 * expected)
    assert torch.equal(result(out[128:]), expected)
