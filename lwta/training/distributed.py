"""What the processes that train one network tell each other."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch import distributed as dist

from lwta.processes import Share


def sum_over(share: Share, values: Tensor) -> Tensor:
    """The sum of all processes' values."""
    if share.world > 1:
        dist.all_reduce(values)
    return values


def gather(share: Share, value: Any) -> list[Any]:
    """All processes' values, in the order of their ranks."""
    if share.world == 1:
        return [value]
    values: list[Any] = [None] * share.world
    dist.all_gather_object(values, value)
    return values


def wait(share: Share) -> None:
    """Until all processes are here."""
    if share.world > 1:
        dist.barrier()
