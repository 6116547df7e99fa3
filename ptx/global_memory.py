"""Global memory of a launch: the tensors passed, at their own addresses, and who touched which byte.

A GPU neither says when a program leaves its tensors nor when two programs use one word in an order that nothing
fixes; here both are errors.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptx.errors import PtxError

PAGE = 16
"""Views begin at multiples of this many bytes, so that every vector in them is aligned."""


NOBODY, SEVERAL = -1, -2
"""Users of memory that no program has used, and that several have read."""


class Span(NamedTuple):
    """Bytes of a tensor."""

    start: int
    """Address of the first byte."""
    size: int
    """Number of bytes."""


class Reserved(NamedTuple):
    """Memory that is reserved and that nothing, or something, has been written to."""

    start: int
    """Address of the first byte."""
    written: NDArray[np.bool_]
    """Which bytes have been written; what kernels write is marked."""


class Place(NamedTuple):
    """Elements of one tensor that an instruction reaches."""

    span: int
    """Number of the tensor."""
    threads: NDArray[np.intp]
    """Threads that reach it."""
    first: NDArray[np.int64]
    """Position of each one's first element in the view of the tensor."""


class GlobalMemory:
    """The tensors of a launch.

    Args:
        spans: bytes that kernels may use; parts that overlap or touch count as one.
        checked: whether use by several programs is looked for.
        grain: size in bytes of the smallest access, the unit in which use is remembered.
        reserved: memory of these tensors of which parts may not have been written.
    """

    def __init__(
        self, spans: list[Span], checked: bool = True, grain: int = 2, reserved: Sequence[Reserved] = ()
    ) -> None:
        self.spans, self._reserved = _joined(spans), reserved
        self._starts = np.array([span.start for span in self.spans], np.uint64)
        self._checked, self._grain = checked, grain
        self._views: dict[tuple[int, np.dtype[Any]], NDArray[Any]] = {}
        self._users: dict[int, tuple[NDArray[np.int32], NDArray[np.int32]]] = {}

    def view(self, span: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a tensor's memory as an array of a type, from the last multiple of 16 bytes before it on."""
        if (span, dtype) not in self._views:
            start, size = self.spans[span]
            low, high = start // PAGE * PAGE, -(-(start + size) // PAGE) * PAGE
            raw = np.ctypeslib.as_array((ctypes.c_uint8 * (high - low)).from_address(low))
            self._views[span, dtype] = raw.view(dtype)
        return self._views[span, dtype]

    def locate(
        self, address: NDArray[np.uint64], size: int, count: int, mask: NDArray[np.bool_], where: object
    ) -> Iterator[Place]:
        """Find the tensors that the threads of a mask reach, each with ``count`` elements of ``size`` bytes.

        Raises:
            PtxError: an address is not a multiple of the whole size, or outside every tensor.
        """
        threads = np.flatnonzero(mask)
        address, wide = address[threads], size * count
        if (address % np.uint64(wide)).any():
            raise PtxError(f"{where}: an address that is not a multiple of {wide} bytes")
        owner = np.searchsorted(self._starts, address, "right") - 1
        for span in np.unique(owner):
            here = owner == span
            start, length = self.spans[span] if span >= 0 else Span(0, 0)
            offset = (address[here] - np.uint64(start)).astype(np.int64)
            if span < 0 or (offset + wide > length).any():
                raise PtxError(f"{where}: byte {int(offset.max())} of a tensor of {length}: outside every tensor")
            yield Place(int(span), threads[here], (offset + start % PAGE) // size)

    def touch(
        self, place: Place, size: int, count: int, program: NDArray[np.int32], write: bool, where: object
    ) -> None:
        """Note who reads or writes.

        Raises:
            PtxError: two programs use one place, one of them writing.
        """
        if not self._checked:
            return
        self._touch_reserved(place, size, count, write, where)
        writer, reader = self._used_by(place.span)
        program = program[place.threads]
        first = place.first * size // self._grain
        for grain in range(max(size * count // self._grain, 1)):
            at = first + grain
            if _others(writer[at], program).any() or (write and _others(reader[at], program).any()):
                raise PtxError(f"{where}: global memory that another program {'uses' if write else 'writes'}")
            users = writer if write else reader
            now = np.where(_others(users[at], program), SEVERAL, program)
            users[at] = now
            several = users[at] != now  # programs that use it with this very instruction
            if write and several.any():
                raise PtxError(f"{where}: global memory that several programs write")
            users[at[several]] = SEVERAL

    def _touch_reserved(self, place: Place, size: int, count: int, write: bool, where: object) -> None:
        """Mark what is written, and refuse to read what nothing has written."""
        if (found := self._reserved_of(place.span)) is None:
            return
        first = place.first * size + (self.spans[place.span].start // PAGE * PAGE - found.start)
        for byte in range(size * count):
            if write:
                found.written[first + byte] = True
            elif not found.written[first + byte].all():
                raise PtxError(f"{where}: global memory that nothing has written")

    def _reserved_of(self, span: int) -> Reserved | None:
        """Return the reserved memory that a tensor lies in, if it lies in some."""
        start = self.spans[span].start
        return next((r for r in self._reserved if r.start <= start < r.start + r.written.size), None)

    def _used_by(self, span: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return which program wrote and which read each part of a tensor."""
        if span not in self._users:
            length = self.view(span, np.dtype(np.uint8)).size // self._grain
            self._users[span] = np.full(length, NOBODY, np.int32), np.full(length, NOBODY, np.int32)
        return self._users[span]


def _others(user: NDArray[np.int32], program: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return where somebody else is the user."""
    return (user != NOBODY) & (user != program)


def _joined(spans: list[Span]) -> list[Span]:
    """Sort spans, and join those that overlap."""
    out: list[Span] = []
    for span in sorted(span for span in spans if span.size):
        if out and span.start < out[-1].start + out[-1].size:
            last = out.pop()
            out.append(Span(last.start, max(last.start + last.size, span.start + span.size) - last.start))
        else:
            out.append(span)
    return out
