"""Threads that part meet again at the first block that all of their ways lead to, wherever it stands in the text."""

from __future__ import annotations

import numpy as np
import pytest

from ptx.parsing import parse
from ptx.schedule import ranks, successors
from tests.support.assembly import entry, run

ADDRESS = "ld.param.u64 %at, [p0]; mov.u32 %t, %tid.x; mul.wide.u32 %offset, %t, 4; add.s64 %address, %at, %offset;"
TOGETHER = "redux.sync.add.s32 %n, %i, -1; st.global.b32 [%address], %n; ret;"  # by whole warps, or an error


def test_the_meeting_place_may_stand_before_the_parting() -> None:
    y = np.zeros(32, np.uint32)
    body = f"""
        {ADDRESS} mov.b32 %i, 1; setp.lt.u32 %p, %t, 10;
        bra.uni PART;
        MEET: {TOGETHER}
        PART: @%p bra MEET;
        add.s32 %i, %i, 1;
        bra.uni MEET;
    """
    run(body, y)
    assert (y == 10 + 2 * 22).all()


@pytest.mark.parametrize("place", ["before", "behind"])
def test_threads_that_have_left_a_loop_wait_for_the_others(place: str) -> None:
    y = np.zeros(64, np.uint32)
    loop = "LOOP: add.s32 %i, %i, 1; setp.lt.u32 %p, %i, %t; @%p bra LOOP; bra.uni MEET;"
    meet = f"MEET: {TOGETHER}"
    parts = [meet, loop] if place == "before" else [loop, meet]
    run(f"{ADDRESS} mov.b32 %i, 0; bra.uni LOOP; {' '.join(parts)}", y, threads=64)
    turns = [max(t, 1) for t in range(64)]
    assert y.tolist() == [sum(turns[:32])] * 32 + [sum(turns[32:])] * 32


def test_an_inner_loop_comes_before_the_rest_of_the_outer_one() -> None:
    y = np.zeros(32, np.uint32)
    body = f"""
        {ADDRESS} mov.b32 %i, 0; mov.b32 %w, 0;
        OUTER: mov.b32 %s, 0;
        INNER: add.s32 %i, %i, 1; add.s32 %s, %s, 1; setp.lt.u32 %p, %s, %t; @%p bra INNER;
        redux.sync.add.s32 %n, %i, -1;
        add.s32 %w, %w, 1; setp.lt.u32 %p, %w, 3; @%p bra OUTER;
        {TOGETHER}
    """
    run(body, y)
    assert (y == 3 * sum(max(t, 1) for t in range(32))).all()


def test_a_block_comes_after_those_that_lead_to_it_and_loops_before_what_follows() -> None:
    program = parse(
        entry(
            """
        bra.uni HEAD;
        AFTER: mov.b32 %n, 0; ret;
        HEAD: setp.lt.u32 %p, %i, 3; @%p bra AFTER;
        setp.lt.u32 %q, %i, 3; @%q bra RIGHT;
        add.s32 %i, %i, 2;
        RIGHT: add.s32 %i, %i, 1; bra.uni HEAD;
    """,
            0,
        )
    )
    order = ranks(program)
    after, head, right = (program.labels[name] for name in ("AFTER", "HEAD", "RIGHT"))
    assert sorted(order) == list(range(len(program.blocks) + 1))
    assert order[head] < order[right] < order[after] < order[len(program.blocks)]
    assert successors(program)[head] == {after, head + 1}
