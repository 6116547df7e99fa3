"""Several processes that train one network, started by torchrun."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from lwta.training.loaders import Share


@contextmanager
def processes(device: torch.device | str | None = None) -> Iterator[tuple[Share, torch.device]]:
    """This process's share and device; under torchrun a process group (nccl on GPUs, gloo on CPUs) while it lasts."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if world == 1:
        yield Share(), chosen
        return
    rank = int(os.environ["RANK"])
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", rank=rank, world_size=world)
    try:
        yield Share(rank, world), chosen
    finally:
        dist.destroy_process_group()


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
