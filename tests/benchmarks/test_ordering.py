"""Which barriers, waits and fences small kernels need, known by their making."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.ordering import FENCED, LATER, NEVER, NO_CONFLICT, NOTHING, Ordering
from ptx import Options
from ptx.launch import translated
from ptx.parsing import Instruction
from tests.support.assembly import entry, run
from tests.support.products import BEGIN, LANES, TIMES_ONES, fill

START = (
    "mov.u32 %t, %tid.x; shl.b32 %s, %t, 2; xor.b32 %n, %s, 128;"
    "ld.param.u64 %at, [p0]; mul.wide.u32 %offset, %t, 4; add.s64 %address, %at, %offset;"
)
WRITE, READ, READ_OTHER = "st.shared.b32 [%s], %t;", "ld.shared.b32 %i, [%s];", "ld.shared.b32 %i, [%n];"
COPY = "cp.async.ca.shared.global [%s], [%address], 4; cp.async.commit_group;"
BAR = "bar.sync 0;"


def ordering(body: str, threads: int = 64, declarations: str = "") -> Ordering:
    """Order of a launch, the first parameter of which is an array of zeros."""
    events: list[Any] = []
    run(
        body,
        np.zeros(256, np.uint32),
        threads=threads,
        shared=1024,
        declarations=declarations,
        options=Options(trace=events),
    )
    return Ordering(translated(entry(body, 1, threads, declarations)), events)


def instructions(order: Ordering, opcode: str) -> list[Instruction]:
    return [x for block in order.program.entry.blocks for x in block if x.opcode.startswith(opcode)]


@pytest.mark.parametrize(
    ("body", "needed"),
    [
        (WRITE + BAR + READ_OTHER, [True]),
        (WRITE + BAR + READ, [False]),  # of its own warp
        (WRITE + BAR + BAR + READ_OTHER, [False, False]),  # either does
        (WRITE + BAR + READ_OTHER + BAR + READ, [True, False]),
        (WRITE + BAR + READ_OTHER + BAR + WRITE, [True, True]),
        ("mov.b32 %i, 7; st.shared.b32 [0], %i;" + BAR + "ld.shared.b32 %i, [0];", [True]),
        ("mov.b32 %w, 0; LOOP: " + WRITE + BAR + READ_OTHER + "add.s32 %w, %w, 1; setp.lt.s32 %p, %w, 3;" + BAR
         + "@%p bra LOOP;", [True, True]),
        ("mov.b32 %w, 0; LOOP: " + WRITE + "add.s32 %s, %s, 256; add.s32 %n, %n, 256;" + BAR + "add.s32 %w, %w, 1;"
         "setp.lt.s32 %p, %w, 3; @%p bra LOOP; ld.shared.b32 %i, [%n + -768];", [True]),  # three turns before
    ],
)  # fmt: skip
def test_barriers(body: str, needed: list[bool]) -> None:
    order = ordering(START + body)
    reasons = [order.spares_barrier(barrier) for barrier in instructions(order, "bar.sync")]
    assert reasons == ["" if need else NO_CONFLICT for need in needed]


def wait(groups: int) -> str:
    return f"cp.async.wait_group {groups};"


@pytest.mark.parametrize(
    ("body", "left_out", "one_more"),
    [
        (COPY + wait(0) + READ, [""], [""]),
        (COPY + wait(0), [NEVER], [NEVER]),
        (COPY + wait(0) + wait(0) + READ, [LATER, NOTHING], [LATER, NOTHING]),
        (
            COPY + wait(0) + BAR + wait(0) + READ_OTHER,
            ["", NOTHING],
            ["", NOTHING],
        ),  # only the first is before the barrier
        (COPY + wait(1) + wait(0) + READ, [NOTHING, ""], [NOTHING, ""]),
        (COPY + "cp.async.commit_group;" + wait(0) + READ, [""], [NOTHING]),
        (COPY + wait(0) + "st.shared.b32 [%s + 256], %t; ld.shared.b32 %i, [%s + 256];", [NEVER], [NEVER]),
    ],
)
def test_waits_for_copies(body: str, left_out: list[str], one_more: list[str]) -> None:
    order = ordering(START + body)
    waits = instructions(order, "cp.async.wait_group")
    assert [order.spares_wait(each, None) for each in waits] == left_out
    assert [order.spares_wait(each, 1) for each in waits] == one_more


COMMIT, DONE = "wgmma.commit_group.sync.aligned;", "wgmma.wait_group.sync.aligned 0;"


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        (TIMES_ONES + COMMIT + DONE + "mov.b32 %i, %d0;", [""]),  # its result is used, or may be
        (TIMES_ONES + COMMIT + DONE + DONE + "mov.b32 %i, %d0;", [LATER, NOTHING]),
        (TIMES_ONES + COMMIT + DONE + "mov.b32 %i, %d0;" + DONE, ["", NOTHING]),
        (TIMES_ONES + COMMIT + DONE + "mov.b32 %f1, 0;" + DONE, ["", NOTHING]),
        (TIMES_ONES + COMMIT + DONE + TIMES_ONES + COMMIT + DONE + "mov.b32 %i, %d0;", [LATER, ""]),
        (TIMES_ONES + COMMIT + DONE + BAR + WRITE + DONE, ["", NOTHING]),
    ],
)
def test_waits_for_products(body: str, reasons: list[str]) -> None:
    order = ordering(fill(256) + BEGIN + body, 128, LANES)
    assert [order.spares_wait(each, None) for each in instructions(order, "wgmma.wait_group")] == reasons


def test_fences() -> None:
    again = "fence.proxy.async.shared::cta;" + TIMES_ONES + COMMIT + DONE
    order = ordering(fill(256) + BEGIN + TIMES_ONES + COMMIT + DONE + again, 128, LANES)
    assert [order.spares_fence(each) for each in instructions(order, "fence.proxy")] == ["", FENCED]
    order = ordering(fill(256) + BEGIN + TIMES_ONES + COMMIT + DONE + BAR + WRITE + BAR + again, 128, LANES)
    assert [order.spares_fence(each) for each in instructions(order, "fence.proxy")] == ["", ""]


def test_programs_that_run_one_after_the_other_are_refused() -> None:
    events: list[Any] = []
    body = START + WRITE
    run(body, np.zeros(256, np.uint32), threads=64, grid=(200,), shared=256, options=Options(trace=events))
    with pytest.raises(ValueError, match="programs that run together, got 2 portions"):
        Ordering(translated(entry(body, 1, 64)), events)
