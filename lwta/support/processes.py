"""Processes that work together, as torchrun starts them: rank and number, and the exchange of data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, distributed
from typing_extensions import Self

TIMEOUT = timedelta(hours=2)
"""Longest time that processes of a `cpu_group` wait for each other.

A process that dies is noticed at once, unless its whole machine fails.
"""

T = TypeVar("T")


class Mergeable(Protocol):
    """Accumulator to which everything that was added to another one can be added."""

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""


M = TypeVar("M", bound=Mergeable)


@dataclass(frozen=True)
class Group:
    """Group of processes that work together, seen from one of them; by default this process alone.

    All processes must call its methods in the same order. If a process dies, the methods of the others raise
    RuntimeError.

    Example:
        >>> group = Group(rank=1, world_size=3)
        >>> group.share(["a", "b", "c", "d", "e"])
        ['b', 'e']
    """

    rank: int = 0
    """Rank of this process, 0…world_size − 1."""
    world_size: int = 1
    """Number of processes."""
    handle: Any = field(default=None, repr=False, compare=False)
    """Process group of torch.distributed; None for the default one."""

    def share(self, work: Sequence[T]) -> Sequence[T]:
        """Return this process's part of the work: every ``world_size``-th item, from ``rank`` on."""
        return work[self.rank :: self.world_size]

    def wait(self) -> None:
        """Block until every process has called this method.

        Raises:
            RuntimeError: another process died.
        """
        if self.world_size > 1:
            with self.explaining_errors():
                distributed.barrier(self.handle)

    def sum(self, values: Tensor) -> Tensor:
        """Sum the values of all processes, in place, and return the sums.

        Raises:
            RuntimeError: another process died.
        """
        if self.world_size > 1:
            with self.explaining_errors():
                distributed.all_reduce(values, group=self.handle)
        return values

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, in the order of their ranks.

        Raises:
            RuntimeError: another process died.
        """
        values: list[Any] = [value] * self.world_size
        if self.world_size > 1:
            with self.explaining_errors():
                distributed.all_gather_object(values, value, group=self.handle)
        return values

    def lead(self, action: Callable[[], T]) -> T:
        """Run the action in the process of rank 0; return, or raise, in all processes what it returned or raised there.

        Raises:
            Exception: the action raised it.
            RuntimeError: another process died.
        """
        if self.world_size == 1:
            return action()
        box: list[Any] = [None, None]
        if self.rank == 0:
            try:
                box[0] = action()
            except Exception as error:
                box[1] = error
        with self.explaining_errors():
            distributed.broadcast_object_list(box, src=0, group=self.handle)
        if box[1] is not None:
            raise box[1]
        result: T = box[0]
        return result

    def merge(self, accumulator: M | None) -> M | None:
        """Merge the accumulators of all processes in that of rank 0; the others keep their own.

        Args:
            accumulator: accumulator of this process; None if nothing was added.

        Raises:
            RuntimeError: another process died.
        """
        with self.explaining_errors():
            if self.rank > 0:
                distributed.send_object_list([accumulator], dst=0, group=self.handle)
            for rank in range(1, self.world_size if self.rank == 0 else 0):  # one by one: they may be large
                box: list[Any] = [None]
                distributed.recv_object_list(box, src=rank, group=self.handle)
                if accumulator is None:
                    accumulator = box[0]
                elif box[0] is not None:
                    accumulator.merge(box[0])
        return accumulator

    @contextmanager
    def explaining_errors(self) -> Iterator[None]:
        """Context whose errors of communication are raised again with the rank and advice.

        Raises:
            RuntimeError: another process died.
        """
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError(
                f"process {self.rank} of {self.world_size}: another process died, or was not heard of for {TIMEOUT}; "
                "what is stored stays, and the same command goes on from there"
            ) from error


def launched() -> Group:
    """Return rank and world size from the environment that torchrun sets; without torchrun, one process alone."""
    return Group(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def own_device(device: torch.device | str | None = None) -> torch.device:
    """Return the device of this process: the one asked for, else a GPU if there is one, and of several GPUs its own."""
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type != "cuda" or chosen.index is not None:
        return chosen
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % max(torch.cuda.device_count(), 1))


@contextmanager
def process_group(device: torch.device | None = None) -> Iterator[Group]:
    """Context in which the processes that torchrun started are the default process group; without it, a group of one.

    Args:
        device: device of the exchanged tensors (default CPU): nccl serves CUDA devices, gloo the CPU.
    """
    if launched().world_size == 1:
        yield Group()
        return
    on_gpu = device is not None and device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


@contextmanager
def cpu_group() -> Iterator[Group]:
    """Context with a gloo group of all processes of the default group, for data on the CPU; else a group of one.

    Raises:
        RuntimeError: another process died.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        yield Group()
        return
    group = Group(distributed.get_rank(), distributed.get_world_size())
    with group.explaining_errors():
        handle = distributed.new_group(backend="gloo", timeout=TIMEOUT)
    try:
        yield Group(group.rank, group.world_size, handle)
    finally:  # also if this process fails: so the others learn of it
        distributed.destroy_process_group(handle)
