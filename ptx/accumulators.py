"""Registers that asynchronous products write: until a product is waited for, no other instruction may use them.

While a product is under way its registers are objects that refuse to be read. Threads of other programs may use their
own registers of the same names; among what they write, a number that no product gives says that ours are untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptx.errors import PtxError

if TYPE_CHECKING:
    from ptx.machine import Machine

UNTOUCHED = np.uint32(0x7FA5C3E1)
"""Bits, a NaN, that a register under way has for those who do not wait for it."""

NOTHING = -1
"""Group of a unit whose registers no product is writing."""


class _Register:
    """A register while products write it for some threads."""

    def __init__(self, accumulators: Accumulators, position: int) -> None:
        self._accumulators, self._position = accumulators, position

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[np.uint32]:
        return self._accumulators.read(self._position)


class Accumulators:
    """Registers that products under way write together, by any number of products of one shape, one after another.

    Args:
        machine: its registers.
        numbers: numbers of the registers.
        units: number of warp groups.

    Raises:
        PtxError: another product is writing one of them.
    """

    def __init__(self, machine: Machine, numbers: tuple[int, ...], units: int) -> None:
        self._machine, self._numbers = machine, numbers
        self.values = np.stack([np.array(machine.each(np.asarray(machine.registers[n]))) for n in numbers])
        """What the registers will hold, (registers, threads), as bits."""
        self._group = np.full(units, NOTHING, np.int32)
        self._lanes = machine.threads // units
        self._own = [_Register(self, k) for k in range(len(numbers))]
        self._hold()

    def _hold(self) -> None:
        for number, register in zip(self._numbers, self._own, strict=True):
            self._machine.registers[number] = register

    def _threads(self, units: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.repeat(units, self._lanes)

    def read(self, position: int) -> NDArray[np.uint32]:
        """Return one register for threads for which nothing writes it.

        Raises:
            PtxError: a product is writing it for one of the threads that execute now.
        """
        busy = self._threads(self._group != NOTHING)
        if (busy & self._machine.active(self._machine.mask)).any():
            name = self._machine.program.register(self._numbers[position])
            raise PtxError(f"{name} is used while an asynchronous product writes it")
        return np.where(busy, UNTOUCHED, self.values[position])

    def take(self) -> None:
        """Take up what threads for which nothing writes the registers have written to them.

        Raises:
            PtxError: a register has been written for a thread for which a product writes it.
        """
        busy = self._threads(self._group != NOTHING)
        for k, number in enumerate(self._numbers):
            now = self._machine.registers[number]
            if now is not self._own[k]:
                now = self._machine.each(np.asarray(now))
                if (now[busy] != UNTOUCHED).any():
                    raise PtxError(f"{self._machine.program.register(number)} is written while a product writes it")
                self.values[k] = np.where(busy, self.values[k], now)
        self._hold()

    def write(self, values: NDArray[np.uint32], live: NDArray[np.bool_], group: NDArray[np.int32]) -> None:
        """Let a product write all registers for some units, in their groups of these numbers."""
        self.values = np.where(self._threads(live), values, self.values)
        self._group = np.where(live, group, self._group)

    def finish(self, before: NDArray[np.int32]) -> bool:
        """Give the registers back for units whose groups have been waited for; return whether that are all of them.

        Args:
            before: number of the first group of each unit that has not been waited for.
        """
        done = (self._group != NOTHING) & (self._group < before)
        if done.any():
            self.take()
            self._group = np.where(done, NOTHING, self._group)
        if (self._group != NOTHING).any():
            return False
        for number, value in zip(self._numbers, self.values, strict=True):
            self._machine.registers[number] = value
        return True


def differ(before: Sequence[Any], now: Sequence[Any], numbers: Sequence[int], active: NDArray[np.bool_]) -> list[int]:
    """Return the registers, among some, that active threads have written since a copy of all was made."""
    out = []
    for number in numbers:
        old, new = before[number], now[number]
        if old is not new and not isinstance(old, _Register) and not isinstance(new, _Register):
            changed = np.broadcast_to(np.asarray(old) != np.asarray(new), active.shape)
            if (changed & active).any():
                out.append(number)
    return out
