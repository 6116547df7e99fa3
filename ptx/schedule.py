"""Turns of threads that have parted: whoever can still reach where others are goes first.

A GPU makes the threads of a warp that part meet again at the first block that all of their ways lead to. Here that
comes of a fixed order of the blocks: a block comes after those that lead to it, jumps back to the head of a loop left
aside, and the blocks of a loop come before what follows the loop. Threads in the first block of the order run; those
that are further on wait, and are caught up with.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from ptx.parsing import Entry


def ranks(entry: Entry) -> NDArray[np.int64]:
    """Return each block's place in the order; the last is that of the end, behind all blocks."""
    leads_to = successors(entry)
    dominators = _dominators(leads_to)
    back = {(a, b) for a, found in enumerate(leads_to) for b in found if dominators[a] >> b & 1}
    depth = _depths(leads_to, back)
    awaited = [0] * len(leads_to)
    for a, found in enumerate(leads_to):
        for b in found:
            awaited[b] += (a, b) not in back
    ready = [(-depth[block], block) for block, number in enumerate(awaited) if number == 0]
    heapq.heapify(ready)
    out = np.full(len(leads_to), len(leads_to), np.int64)
    for place in range(len(leads_to)):
        _, block = heapq.heappop(ready)
        out[block] = place
        for following in leads_to[block]:
            if (block, following) not in back:
                awaited[following] -= 1
                if awaited[following] == 0:
                    heapq.heappush(ready, (-depth[following], following))
    return out


def successors(entry: Entry) -> list[set[int]]:
    """Return the blocks that each block leads to; the end is a block of its own, the last."""
    end = len(entry.blocks)
    out: list[set[int]] = []
    for number, block in enumerate(entry.blocks):
        last = block[-1] if block else None
        following = set()
        if last is not None and last.name == "bra":
            following.add(entry.labels[last.operands[0]])
        elif last is not None and last.name in ("ret", "exit"):
            following.add(end)
        if last is None or last.guard or last.name not in ("bra", "ret", "exit"):
            following.add(number + 1)
        out.append(following)
    return [*out, set()]


def _dominators(leads_to: list[set[int]]) -> list[int]:
    """Return, as bits, the blocks that every way to a block passes, itself too; all of them if no way leads there."""
    everything = (1 << len(leads_to)) - 1
    comes_from: list[set[int]] = [set() for _ in leads_to]
    for block, found in enumerate(leads_to):
        for following in found:
            comes_from[following].add(block)
    out = [1, *[everything] * (len(leads_to) - 1)]
    changed = True
    while changed:
        changed = False
        for block in range(1, len(leads_to)):
            passed = everything
            for before in comes_from[block]:
                passed &= out[before]
            passed |= 1 << block
            if comes_from[block] and passed != out[block]:
                out[block], changed = passed, True
    return out


def _depths(leads_to: list[set[int]], back: set[tuple[int, int]]) -> list[int]:
    """Return in how many loops each block is: a loop is all that reaches a jump back without passing its target."""
    comes_from: list[set[int]] = [set() for _ in leads_to]
    for block, found in enumerate(leads_to):
        for following in found:
            comes_from[following].add(block)
    loops: dict[int, set[int]] = {}
    for source, head in back:
        inside = loops.setdefault(head, {head})
        waiting = [source]
        while waiting:
            block = waiting.pop()
            if block not in inside:
                inside.add(block)
                waiting.extend(comes_from[block])
    return [sum(block in inside for inside in loops.values()) for block in range(len(leads_to))]
