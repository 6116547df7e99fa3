"""Instructions of whole warps against definitions that know the layout of fragments from PTX's tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ptx import PtxError
from tests.support.assembly import compute, run

Place = Callable[[int, int], int]
LANES = np.arange(64, dtype=np.uint32)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("shfl.sync.bfly.b32 %y, %a, 5, 31, -1;", lambda lane: lane ^ 5),
        ("shfl.sync.idx.b32 %y, %a, 9, 31, 0xffffffff;", lambda lane: 9),
        ("shfl.sync.down.b32 %y, %a, 4, 31, -1;", lambda lane: lane + 4 if lane + 4 < 32 else lane),
        ("shfl.sync.up.b32 %y, %a, 4, 0, -1;", lambda lane: lane - 4 if lane >= 4 else lane),
    ],
)
def test_shuffles(text: str, source: Callable[[int], int]) -> None:
    got = compute(text, "u4", LANES * 3)
    assert got.tolist() == [3 * (lane // 32 * 32 + source(lane % 32)) for lane in range(64)]


@pytest.mark.parametrize(("name", "function"), [("min.u32", min), ("max.s32", max), ("add.s32", sum)])
def test_reductions(name: str, function: Callable[[range], int]) -> None:
    got = compute(f"redux.sync.{name} %y, %a, -1;", "u4", LANES)
    assert got.tolist() == [function(range(32))] * 32 + [function(range(32, 64))] * 32


def registers(matrix: torch.Tensor, row: Place, column: Place, pairs: int) -> NDArray[np.uint32]:
    """Registers of 32 lanes, (32, registers): row(lane, i) and column(lane, i) place element i of a lane."""
    per_lane = matrix.numel() // 32
    out = torch.stack(
        [torch.stack([matrix[row(lane, i), column(lane, i)] for i in range(per_lane)]) for lane in range(32)]
    )
    return out.contiguous().view(torch.int32).numpy().astype(np.uint32) if pairs == 2 else out.numpy().view(np.uint32)


@pytest.mark.parametrize("kind", ["bf16", "f16", "tf32"])
def test_product_of_a_warp(kind: str) -> None:
    """Positions of elements by the tables for mma.m16n8k16 and mma.m16n8k8 in the PTX ISA."""
    k = 8 if kind == "tf32" else 16
    dtype = {"bf16": torch.bfloat16, "f16": torch.float16, "tf32": torch.float32}[kind]
    A, B, C = torch.randn(16, k).to(dtype), torch.randn(k, 8).to(dtype), torch.randn(16, 8)
    if kind == "tf32":
        A, B = (((x.view(torch.int32) >> 13) << 13).view(torch.float32) for x in (A, B))
        a = registers(A, lambda lane, i: lane // 4 + 8 * (i % 2), lambda lane, i: lane % 4 + 4 * (i // 2), 1)
        b = registers(B, lambda lane, i: lane % 4 + 4 * i, lambda lane, i: lane // 4, 1)
    else:
        a = registers(
            A, lambda lane, i: lane // 4 + 8 * (i // 2 % 2), lambda lane, i: lane % 4 * 2 + i % 2 + 8 * (i // 4), 2
        )
        b = registers(B, lambda lane, i: lane % 4 * 2 + i % 2 + 8 * (i // 2), lambda lane, i: lane // 4, 2)
    c = registers(C, lambda lane, i: lane // 4 + 8 * (i // 2), lambda lane, i: lane % 4 * 2 + i % 2, 1)
    d = np.zeros((32, 4), np.uint32)
    loads, names = [], []
    for number, array in enumerate((a, b, c)):
        width = array.shape[1]
        own = [f"%{'abc'[number]}{j}" for j in range(width)]
        names.append(f"{{{', '.join(own)}}}")
        loads.append(
            f"ld.param.u64 %at, [p{number}]; mul.wide.u32 %offset, %t, {4 * width}; add.s64 %address, %at, %offset;"
            + "".join(f"ld.global.b32 {name}, [%address + {4 * j}];" for j, name in enumerate(own))
        )
    shape = "m16n8k8" if kind == "tf32" else "m16n8k16"
    text = (
        "mov.u32 %t, %tid.x; "
        + "".join(loads)
        + f"mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32 {{%d0, %d1, %d2, %d3}}, {', '.join(names)};"
        + "ld.param.u64 %at, [p3]; mul.wide.u32 %offset, %t, 16; add.s64 %address, %at, %offset;"
        + "st.global.v4.b32 [%address], {%d0, %d1, %d2, %d3};"
    )
    run(text, a, b, c, d, declarations=".reg .b32 %a<4>, %b<2>, %c<4>, %d<4>;".replace(", %", "; .reg .b32 %"))
    D = torch.zeros(16, 8)
    for lane in range(32):
        for i in range(4):
            D[lane // 4 + 8 * (i // 2), lane % 4 * 2 + i % 2] = float(d.view(np.float32)[lane, i])
    exact = A.double() @ B.double() + C.double()
    assert torch.equal(D, exact.float())


def moved(matrices: int, store: str, load: str, step: int = 16) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Registers of 32 lanes before a store of matrices to shared memory and after a load, (32, matrices)."""
    values = np.arange(32 * 4, dtype=np.uint32).reshape(32, 4) * 0x10003
    out = np.zeros_like(values)
    names = ", ".join(f"%a{k}" for k in range(matrices))
    text = (
        f"mov.u32 %t, %tid.x; mul.lo.s32 %s, %t, {step}; ld.param.u64 %at, [p0]; mul.wide.u32 %offset, %t, 16;"
        + "add.s64 %address, %at, %offset; ld.global.v4.b32 {%a0, %a1, %a2, %a3}, [%address];"
        + f"setp.ge.u32 %p, %t, {8 * matrices}; @%p mov.b32 %s, 0xffff1;"  # their addresses do not count
        + f"stmatrix.sync.aligned.m8n8.x{matrices}{store}.shared.b16 [%s], {{{names}}}; bar.sync 0;"
        + f"ldmatrix.sync.aligned.m8n8.x{matrices}{load}.shared.b16 {{{names}}}, [%s];"
        + "ld.param.u64 %at, [p1]; add.s64 %address, %at, %offset;"
        + "st.global.v4.b32 [%address], {%a0, %a1, %a2, %a3};"
    )
    run(text, values, out, shared=512, declarations=".reg .b32 %a<4>;")
    return values[:, :matrices], out[:, :matrices]


@pytest.mark.parametrize("matrices", [1, 2, 4])
@pytest.mark.parametrize(("store", "load"), [("", ""), ("", ".trans"), (".trans", ""), (".trans", ".trans")])
def test_fragments_to_shared_memory_and_back(matrices: int, store: str, load: str) -> None:
    """stmatrix writes what ldmatrix reads; where one of them is transposed, element (i, j) is at (j, i)."""
    before, after = moved(matrices, store, load)
    for matrix in range(matrices):
        old, new = (x[:, matrix].copy().view(np.uint16).reshape(8, 8) for x in (before, after))
        assert (new == (old if store == load else old.T)).all()  # lane l has word l mod 4 of row l div 4


def test_fragments_in_shared_memory() -> None:
    """Row i of matrix j is where lane 8j + i says."""
    out = np.zeros(256, np.uint32)
    text = (
        "mov.u32 %t, %tid.x; mul.lo.s32 %s, %t, 32; mov.b32 %i, %t;"
        + "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%s], {%i, %i, %i, %i}; bar.sync 0; shl.b32 %n, %t, 5;"
        + "ld.param.u64 %at, [p0]; mul.wide.u32 %offset, %t, 32; add.s64 %address, %at, %offset;"
        + "".join(f"ld.shared.b32 %i, [%n + {4 * k}]; st.global.b32 [%address + {4 * k}], %i;" for k in range(4))
    )
    run(text, out, shared=1024)
    assert out.reshape(4, 8, 8)[:, :, :4].tolist() == np.arange(32).reshape(8, 4)[None].repeat(4, 0).tolist()


def test_rows_of_matrices_in_one_place() -> None:
    with pytest.raises(PtxError, match="different values"):
        moved(4, "", "", step=0)


@pytest.mark.parametrize("text", ["stmatrix.sync.aligned.m8n8.x1.shared.b16 [%at], {%i};",
                                  "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%i}, [%at];"])  # fmt: skip
def test_rows_before_shared_memory(text: str) -> None:
    with pytest.raises(PtxError, match="outside shared memory"):
        run("mov.u32 %t, %tid.x; mov.b64 %at, -16; " + text, shared=512)
