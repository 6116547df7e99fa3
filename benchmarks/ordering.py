"""Which barriers, waits and fences a launch can spare, told from all uses of shared memory that it made.

This is the definition that the executor's own checks are compared with: those remember the last use of each place, and
this looks at all uses. The launch must be without fault itself. It needs

    a barrier   if a byte is used by one warp before it and by another after it, one of them writing, with no other
                barrier between them
    a wait      if what it completes is used before a later wait completes it, or, by another warp, before a barrier
                follows that one
    a fence     if a product reads what no other fence has followed since it was written
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptx.groups import Operation, part
from ptx.instructions.copies import Copy
from ptx.instructions.wgmma import Product
from ptx.parsing import Instruction
from ptx.program import Program
from ptx.shared_memory import SEVERAL
from ptx.trace import Event, Fenced, Passed, Started, Use, Waited

WARP = 32
NOBODY = -1

NO_CONFLICT = "no two warps use one byte on its two sides, one of them writing"
NOTHING = "nothing that it would complete is under way"
LATER = "a later wait completes the same before anything uses it"
NEVER = "nothing uses what it completes"
FENCED = "products read only what another fence has followed"
"""Reasons for which a launch can spare an instruction."""


class _Section(NamedTuple):
    """What a program does between two barriers."""

    end: Instruction | None
    """Barrier that ends it; none at the end of the program."""
    users: NDArray[np.uint32]
    """Warps that use each byte, one bit for each."""
    writers: NDArray[np.uint32]
    """Those that write it."""


def _bytes(first: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return (first[:, None] + np.arange(size)).ravel()


class Ordering:
    """Uses of shared memory in one launch, and what orders them.

    Args:
        program: kernel that was launched.
        events: what it did, of programs that ran together.

    Raises:
        ValueError: some of the programs ran after others.
    """

    def __init__(self, program: Program, events: Sequence[Event]) -> None:
        started = [event for event in events if isinstance(event, Started)]
        if len(started) != 1:
            raise ValueError(f"events: expected those of programs that run together, got {len(started)} portions")
        self.program, self._events = program, list(events)
        self._programs, self._size = started[0]
        self._sections = list(map(list, self._divided()))

    # ---- barriers

    def _divided(self) -> list[list[_Section]]:
        """Return the sections of each program."""
        out: list[list[_Section]] = [[] for _ in range(self._programs)]
        users, writers = (np.zeros((self._programs, self._size), np.uint32) for _ in range(2))
        for event in self._events:
            if isinstance(event, Passed):
                for program in event.programs:
                    out[program].append(_Section(event.where, users[program].copy(), writers[program].copy()))
                    users[program] = writers[program] = 0
            for first, size, warp, write in self._uses(event):
                for one in np.unique(warp):
                    at = _bytes(first[warp == one], size)
                    bit = np.uint32(0xFFFFFFFF if one == SEVERAL else 1 << one)
                    users.reshape(-1)[at] |= bit
                    if write:
                        writers.reshape(-1)[at] |= bit
        for program, sections in enumerate(out):
            sections.append(_Section(None, users[program], writers[program]))
        return out

    def _uses(self, event: Event) -> Iterator[tuple[NDArray[np.int64], int, NDArray[np.int64], bool]]:
        """Yield first bytes, size, warps, and whether they write, of an event; a copy writes when it completes too."""
        if isinstance(event, Use):
            yield event.first, event.size, event.warp.astype(np.int64), event.write
        elif isinstance(event, Waited):
            for operation in event.finished:
                if isinstance(operation, Copy):
                    yield operation.index, _size(operation), self._warps(event, operation), True

    def _warps(self, event: Waited, copy: Copy) -> NDArray[np.int64]:
        return copy.units % (len(event.active) // self._programs) // WARP

    def spares_barrier(self, barrier: Instruction) -> str:
        """Return why the launch can spare a barrier; empty if two uses are in order by it alone."""
        for sections in self._sections:
            users, writers = (np.zeros(self._size, np.uint32) for _ in range(2))
            for section in sections:
                if _conflict(users, section.writers) or _conflict(writers, section.users):
                    return ""
                users, writers = users | section.users, writers | section.writers
                if section.end is not barrier:
                    users, writers = np.zeros_like(users), np.zeros_like(writers)
        return NO_CONFLICT

    # ---- waits

    def spares_wait(self, wait: Instruction, more: int | None) -> str:
        """Return why the launch can spare a wait, or some groups of it; empty if something goes wrong without.

        Args:
            wait: the wait.
            more: number of groups more that it leaves under way; None for no wait at all.
        """
        reasons = {NOTHING}
        for position, event in enumerate(self._events):
            if isinstance(event, Waited) and event.where is wait:
                late = list(_left(event, event.finished, more))
                if late:
                    reasons.add(self._spares(position, late, wait, more))
                    if self._registers_used(position, late, wait):
                        return ""
        return "" if "" in reasons else "; ".join(sorted(reasons - {NOTHING})) or NOTHING

    def _spares(self, position: int, late: list[Operation], wait: Instruction, more: int | None) -> str:
        """Return why what is late need not be complete; empty if it is used before it is complete and in order."""
        under_way = np.zeros(self._programs * self._size, bool)
        fresh = np.full(under_way.size, NOBODY, np.int64)
        reads = isinstance(late[0], Product)  # what products read may be read
        for operation in late:
            under_way[_place(operation)] = True
        for event in self._events[position + 1 :]:
            if isinstance(event, Use):
                at, warp = _bytes(event.first, event.size), np.repeat(event.warp, event.size)
                others = (fresh[at] != NOBODY) & (fresh[at] != warp)
                if (under_way[at].any() and (event.write or not reads)) or others.any():
                    return ""
            elif isinstance(event, Passed):
                for program in event.programs:
                    fresh[program * self._size : (program + 1) * self._size] = NOBODY
            elif isinstance(event, Waited) and event.where.name == wait.name:
                leaves = more if event.where is wait else 0
                self._complete(event, _done(event, late, leaves), under_way, fresh)
                late = list(_left(event, late, leaves))
            if not late and (fresh == NOBODY).all():
                break
        return NEVER if late else LATER

    def _complete(
        self, event: Waited, done: Iterator[Operation], under_way: NDArray[np.bool_], fresh: NDArray[np.int64]
    ) -> None:
        """Note that operations are complete, and which warps alone may use what they copied."""
        for operation in done:
            under_way[_place(operation)] = False
            if isinstance(operation, Copy):
                fresh[_place(operation)] = np.repeat(self._warps(event, operation), _size(operation))

    def _registers_used(self, position: int, late: list[Operation], wait: Instruction) -> bool:
        """Return whether registers of late products may be used before a later wait, which follows without a branch."""
        products = [operation for operation in late if isinstance(operation, Product)]
        if not products:
            return False
        results = {self.program.register(number) for product in products for number in product.results}
        sources = {self.program.register(number) for product in products for number in product.registers}
        for instruction in self._straight_on(wait):
            if instruction.opcode == wait.opcode:
                following = next(event for event in self._events[position + 1 :] if _is_wait(event, instruction))
                return any(_left(following, late, 0))
            used = _names(instruction.operands) & results or _names(instruction.operands[:1]) & sources
            if instruction.name != "wgmma" and used:
                return True
        return True

    def _straight_on(self, start: Instruction) -> Iterator[Instruction]:
        """Yield the instructions that follow one for certain."""
        begun = False
        for instruction in chain.from_iterable(self.program.entry.blocks):
            if begun and instruction.name in ("bra", "ret", "exit"):
                return
            if begun:
                yield instruction
            begun = begun or instruction is start

    # ---- fences

    def spares_fence(self, fence: Instruction) -> str:
        """Return why the launch can spare a fence of shared memory; empty if a product reads what no other follows."""
        fenced = NOBODY
        written = np.full(self._programs * self._size, NOBODY, np.int64)
        for position, event in enumerate(self._events):
            if isinstance(event, Fenced) and event.where is not fence:
                fenced = position
            for first, size, _, write in self._uses(event):
                at = _bytes(first, size)
                if write:
                    written[at] = position
                elif isinstance(event, Use) and "mma_async" in event.where.opcode and (written[at] > fenced).any():
                    return ""
        return FENCED


def _conflict(some: NDArray[np.uint32], others: NDArray[np.uint32]) -> bool:
    """Return whether two warps use one byte, one among some, the other among others."""
    all_of_them = some | others
    return bool(((some != 0) & (others != 0) & (all_of_them & (all_of_them - 1) != 0)).any())


def _is_wait(event: Event, where: Instruction) -> bool:
    return isinstance(event, Waited) and event.where is where


def _names(operands: Sequence[str]) -> set[str]:
    """Return the names in operands."""
    return set(re.findall(r"[%\w$@]+", " ".join(operands)))


def _size(operation: Operation) -> int:
    """Return the bytes of each place of an operation."""
    return 4 * operation.words.shape[1] if isinstance(operation, Copy) else operation.size  # type: ignore[attr-defined]


def _place(operation: Operation) -> NDArray[np.int64]:
    """Return the bytes of shared memory that an operation writes, or reads."""
    return _bytes(operation.index.reshape(-1), _size(operation))  # type: ignore[attr-defined]


def _left(event: Waited, operations: Sequence[Operation], more: int | None) -> Iterator[Operation]:
    """Yield what a wait leaves under way if it leaves more groups, or does not wait at all."""
    for operation in operations:
        left = np.ones(len(operation.units), bool) if more is None else ~_completes(event, operation, more)
        if left.any():
            yield part(operation, left)


def _done(event: Waited, operations: Sequence[Operation], more: int | None) -> Iterator[Operation]:
    """Yield what a wait completes."""
    for operation in operations:
        if more is not None and (done := _completes(event, operation, more)).any():
            yield part(operation, done)


def _completes(event: Waited, operation: Operation, more: int) -> NDArray[np.bool_]:
    units = operation.units
    return event.active[units] & (operation.group < event.committed[units] - event.last - more)
