"""Counts against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from ptx import Options
from tests.support.assembly import run

COUNTED = Options(counted=True)


@pytest.mark.parametrize(("stride", "sectors"), [(4, 4), (8, 8), (32, 32), (64, 32), (0, 1)])
def test_sectors_of_a_warp(stride: int, sectors: int) -> None:
    x = np.zeros(1024, np.uint32)
    body = (
        f"ld.param.u64 %at, [p0]; mov.u32 %t, %tid.x; mul.wide.u32 %offset, %t, {stride}; "
        "add.s64 %address, %at, %offset; ld.global.b32 %i, [%address];"
    )
    x = x[(-x.ctypes.data // 4) % 8 :]  # sectors begin at multiples of 32 bytes
    counts = run(body, x, options=COUNTED)
    assert (counts.load.asked, counts.load.sectors, counts.store.sectors) == (128, sectors, 0)


@pytest.mark.parametrize(("stride", "wavefronts"), [(4, 1), (8, 2), (16, 4), (128, 32), (0, 1), (132, 1)])
def test_bank_conflicts(stride: int, wavefronts: int) -> None:
    body = f"mov.u32 %t, %tid.x; mul.lo.s32 %s, %t, {stride}; st.shared.b32 [%s], %i;"
    counts = run(body, shared=32 * 132, options=COUNTED)
    assert (counts.shared_store.wavefronts, counts.shared_store.conflicts) == (wavefronts, wavefronts - 1)


def test_vectors_of_sixteen_bytes_take_four_passes_and_have_no_conflicts() -> None:
    body = "mov.u32 %t, %tid.x; shl.b32 %s, %t, 4; st.shared.v4.b32 [%s], {%i, %i, %i, %i};"
    counts = run(body, shared=512, options=COUNTED)
    assert (counts.shared_store.wavefronts, counts.shared_store.conflicts) == (4, 0)


def test_instructions_are_counted_by_warp_and_by_turn_of_a_loop() -> None:
    body = """
        mov.u32 %t, %tid.x; mov.b32 %i, 0;
        LOOP: add.s32 %i, %i, 1; setp.lt.s32 %p, %i, 5; @%p bra LOOP;
        bar.sync 0;
    """
    counts = run(body, threads=96, grid=(7,))
    assert counts.instructions() == {
        "mov.u32": 21, "mov.b32": 21, "add.s32": 105, "setp.lt.s32": 105, "bra": 105, "bar.sync": 21, "ret": 21,
    }  # fmt: skip
    assert counts.barriers == 21


def test_a_warp_without_active_threads_executes_nothing() -> None:
    body = "mov.u32 %t, %tid.x; setp.lt.u32 %p, %t, 32; @%p bra END; add.s32 %i, %i, 1; END: mov.b32 %n, 0;"
    assert run(body, threads=128).instructions()["add.s32"] == 3
