"""Faults that a GPU does not report: each is an error here, and the program without it is none."""

from __future__ import annotations

import numpy as np
import pytest

from ptx import PtxError
from tests.support.assembly import run

ADDRESS = "ld.param.u64 %at, [p0]; mov.u32 %t, %tid.x; mul.wide.u32 %offset, %t, 4; add.s64 %address, %at, %offset;"
SHARED = "mov.u32 %t, %tid.x; shl.b32 %s, %t, 2; "
OTHER_WARP = "xor.b32 %n, %s, 128; "  # the address of a thread of another warp, among 64


def test_a_read_beyond_the_tensor() -> None:
    x = np.zeros(64, np.float32)
    run(ADDRESS + "ld.global.b32 %i, [%address + 128];", x)
    with pytest.raises(PtxError, match="byte 256 of a tensor of 256"):
        run(ADDRESS + "ld.global.b32 %i, [%address + 132];", x)


def test_a_write_before_the_tensor() -> None:
    with pytest.raises(PtxError, match="outside every tensor"):
        run(ADDRESS + "st.global.b32 [%address + -4], %t;", np.zeros(64, np.float32))


def test_a_read_from_the_gap_between_the_rows_of_two_tensors() -> None:
    x = np.zeros(4096, np.float32)
    with pytest.raises(PtxError, match="outside every tensor"):
        run(ADDRESS + "ld.global.b32 %i, [%address + 2048];", x[:32], x[2048:])


def test_threads_that_a_guard_holds_back_touch_nothing() -> None:
    x = np.zeros(16, np.uint32)
    run(ADDRESS + "setp.lt.u32 %p, %t, 16; @%p st.global.b32 [%address], %t;", x)
    assert x.tolist() == list(range(16))


def test_a_vector_that_is_not_aligned() -> None:
    x = np.zeros(256, np.float32)
    with pytest.raises(PtxError, match="not a multiple of 16"):
        run(ADDRESS + "{ .reg .b32 a, b, c, d; ld.global.v4.b32 {a, b, c, d}, [%address]; }", x)


def test_two_threads_that_write_different_numbers_to_one_place() -> None:
    x = np.zeros(1, np.uint32)
    run("ld.param.u64 %at, [p0]; mov.b32 %i, 7; st.global.b32 [%at], %i;", x)
    assert x[0] == 7
    with pytest.raises(PtxError, match="different values"):
        run("ld.param.u64 %at, [p0]; mov.u32 %t, %tid.x; st.global.b32 [%at], %t;", x)


def test_two_programs_that_write_one_word() -> None:
    body = "ld.param.u64 %at, [p0]; mov.b32 %i, 7; st.global.b32 [%at], %i;"
    run(body, np.zeros(1, np.uint32))
    with pytest.raises(PtxError, match="several programs"):  # at once
        run(body, np.zeros(1, np.uint32), grid=(2,))
    with pytest.raises(PtxError, match="another program"):  # one after the other
        run(body, np.zeros(1, np.uint32), grid=(10,), threads=8192)


def test_a_program_that_reads_what_another_writes() -> None:
    read_first = "ld.param.u64 %at, [p0]; ld.global.b32 %i, [%at]; mov.u32 %n, %ctaid.x; setp.eq.s32 %p, %n, 1;"
    run(read_first, np.zeros(1, np.uint32), grid=(2,))
    with pytest.raises(PtxError, match="another program"):
        run(read_first + "@%p st.global.b32 [%at], %n;", np.zeros(1, np.uint32), grid=(2,))


def test_neighbouring_bytes_of_two_programs_are_no_conflict() -> None:
    x = np.zeros(8, np.uint8)
    body = "ld.param.u64 %at, [p0]; mov.u32 %n, %ctaid.x; cvt.u64.u32 %offset, %n; add.s64 %address, %at, %offset;"
    run(body + "st.global.b8 [%address], %n;", x, grid=(8,))
    assert x.tolist() == list(range(8))


def test_shared_memory_that_nothing_has_written() -> None:
    run(SHARED + "st.shared.b32 [%s], %t; ld.shared.b32 %i, [%s];", shared=256)
    with pytest.raises(PtxError, match="nothing has written"):
        run(SHARED + "st.shared.b32 [%s], %t; ld.shared.b32 %i, [%s + 128];", shared=256)


def test_the_end_of_shared_memory() -> None:
    with pytest.raises(PtxError, match="outside shared memory of 128"):
        run(SHARED + "st.shared.b32 [%s + 4], %t;", shared=128)


@pytest.mark.parametrize("instruction", ["st.shared.b32 [%s], %t;", "ld.shared.b32 %i, [%s];"])
def test_an_address_before_shared_memory(instruction: str) -> None:
    """Among several programs the bytes before those of one are another's."""
    with pytest.raises(PtxError, match="outside shared memory of 128"):
        run(
            SHARED + "sub.s32 %s, %s, 4; cvt.s64.s32 %at, %s; " + instruction.replace("%s", "%at"),
            grid=(2,),
            shared=128,
        )


def test_shared_memory_ends_at_its_last_byte() -> None:
    run("mov.b32 %i, 0; st.shared.b32 [96], %i;", shared=100)
    with pytest.raises(PtxError, match="outside shared memory of 100"):
        run("mov.b32 %i, 0; st.shared.b32 [100], %i;", shared=100)


def test_symbols_that_are_not_shared_memory_are_errors() -> None:
    run("mov.b32 %i, 0; st.shared.b32 [global_smem], %i; st.shared.b32 [global_smem+4], %i;", shared=8)
    with pytest.raises(PtxError, match="not known: table"):
        run("ld.shared.b32 %i, [table];", shared=128)


@pytest.mark.parametrize("first", ["st", "ld"])
def test_two_warps_without_a_barrier(first: str) -> None:
    """Read after write, and write after read."""
    start = SHARED + OTHER_WARP + "st.shared.b32 [%s], %t; "
    use = "ld.shared.b32 %i, [%n];"
    if first == "ld":
        start, use = start + "bar.sync 0; ld.shared.b32 %i, [%s]; ", "st.shared.b32 [%n], %t;"
    run(start + "bar.sync 0; " + use, threads=64, shared=256)
    with pytest.raises(PtxError, match="no barrier between"):
        run(start + use, threads=64, shared=256)


def test_a_read_by_several_warps_and_a_write_of_one_of_them() -> None:
    start = SHARED + "st.shared.b32 [%s], %t; bar.sync 0; ld.shared.b32 %i, [0]; "
    write = "setp.eq.u32 %p, %t, 0; @%p st.shared.b32 [%s], %t;"
    run(start + "bar.sync 0;" + write, threads=64, shared=256)
    with pytest.raises(PtxError, match="written after a read of another warp"):
        run(start + write, threads=64, shared=256)


COPY = SHARED + ADDRESS + "cp.async.ca.shared.global [%s], [%address], 4; cp.async.commit_group; "


def test_an_asynchronous_copy_that_is_waited_for() -> None:
    x, y = np.arange(32, dtype=np.uint32), np.zeros(32, np.uint32)
    end = (
        "ld.shared.b32 %i, [%s]; ld.param.u64 %at, [p1]; add.s64 %address, %at, %offset; st.global.b32 [%address], %i;"
    )
    run(COPY + "cp.async.wait_group 0; " + end, x, y, shared=128)
    assert (x == y).all()


@pytest.mark.parametrize("wait", ["", "cp.async.wait_group 1;", "bar.sync 0;"])
def test_an_asynchronous_copy_that_is_read_too_early(wait: str) -> None:
    with pytest.raises(PtxError, match="asynchronous copy is writing"):
        run(COPY + wait + "ld.shared.b32 %i, [%s];", np.zeros(32, np.uint32), shared=128)


def test_an_asynchronous_copy_that_another_warp_reads_without_a_barrier() -> None:
    x = np.zeros(64, np.uint32)
    read = OTHER_WARP + "ld.shared.b32 %i, [%n];"
    run(COPY + "cp.async.wait_group 0; bar.sync 0;" + read, x, threads=64, shared=256)
    with pytest.raises(PtxError, match="no barrier between"):
        run(COPY + "cp.async.wait_group 0;" + read, x, threads=64, shared=256)


def test_copies_of_different_numbers_to_one_place() -> None:
    x = np.arange(32, dtype=np.uint32)
    with pytest.raises(PtxError, match="different values"):
        run(COPY.replace("[%s]", "[0]") + "cp.async.wait_group 0;", x, shared=128)


@pytest.mark.parametrize("instruction", ["ld.shared.b32 %i, [%s];", "@%p ld.shared.b32 %i, [%s];"])
def test_programs_count_their_own_groups_of_copies(instruction: str) -> None:
    """The second program closes a group more than the first, whose copy is therefore still under way."""
    more = "mov.u32 %n, %ctaid.x; setp.eq.u32 %p, %n, 1; @!%p bra BOTH; cp.async.commit_group; BOTH: "
    body = COPY + more + "cp.async.wait_group 1; " + instruction
    if "@" in instruction:
        run(body, np.zeros(32, np.uint32), grid=(2,), shared=128)
    else:
        with pytest.raises(PtxError, match="asynchronous copy is writing"):
            run(body, np.zeros(32, np.uint32), grid=(2,), shared=128)


def test_a_copy_of_no_bytes_writes_zeros_and_reads_nothing() -> None:
    y = np.ones(32, np.uint32)
    copy = SHARED + "mov.b64 %address, 0; cp.async.ca.shared.global [%s], [%address], 4, 0; cp.async.commit_group; "
    end = (
        "cp.async.wait_group 0; ld.shared.b32 %i, [%s]; ld.param.u64 %at, [p0]; mul.wide.u32 %offset, %t, 4; "
        "add.s64 %address, %at, %offset; st.global.b32 [%address], %i;"
    )
    run(copy + end, y, shared=128)
    assert not y.any()


def test_threads_that_part_meet_again() -> None:
    y = np.zeros(64, np.uint32)
    body = (
        ADDRESS
        + """
        setp.lt.u32 %p, %t, 10; mov.b32 %i, 0;
        @%p bra FEW;
        add.s32 %i, %i, 100;
        bra.uni BOTH;
        FEW: add.s32 %i, %i, 1; add.s32 %n, %i, %t; setp.lt.s32 %q, %i, %t; @%q bra FEW;
        BOTH: st.global.b32 [%address], %i;
    """
    )
    run(body, y, threads=64)
    assert y.tolist() == [max(t, 1) for t in range(10)] + [100] * 54


def test_a_barrier_that_some_threads_never_reach() -> None:
    body = "mov.u32 %t, %tid.x; setp.lt.u32 %p, %t, 32; @%p bra WAIT; LOOP: bra.uni LOOP; WAIT: bar.sync 0;"
    ends = body.replace("LOOP: bra.uni LOOP;", "ret;")
    run(ends, threads=64)  # threads that have ended are not waited for
    forward = body.replace("LOOP: bra.uni LOOP;", "bra.uni END;") + " END: mov.b32 %i, 0;"
    run(forward, threads=64)


def test_part_of_a_warp_at_a_barrier() -> None:
    """Undefined, by the PTX ISA; threads that have ended do not count."""
    start = "mov.u32 %t, %tid.x; setp.lt.u32 %p, %t, 40; @%p bra WAIT; "
    run(start + "ret; WAIT: bar.sync 0;", threads=64)
    with pytest.raises(PtxError, match="part of a warp"):
        run(start + "bra.uni END; WAIT: bar.sync 0; END: mov.b32 %i, 0;", threads=64)


@pytest.mark.parametrize("text", ["shfl.sync.bfly.b32 %i, %t, 1, 31, -1;", "redux.sync.add.s32 %i, %t, -1;"])
def test_part_of_a_warp_in_what_a_warp_does_together(text: str) -> None:
    run("mov.u32 %t, %tid.x; " + text)
    with pytest.raises(PtxError, match="part of a warp"):
        run("mov.u32 %t, %tid.x; setp.lt.u32 %p, %t, 7; @%p " + text)
