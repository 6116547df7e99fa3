"""The processes that torchrun starts, and the device of each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import distributed


class Share(NamedTuple):
    """Which of the processes that work together this one is."""

    rank: int = 0
    world: int = 1


def own_device(device: torch.device | str | None = None) -> torch.device:
    """The device asked for, by default a GPU where there is one; of several GPUs this process's own."""
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type != "cuda" or chosen.index is not None:
        return chosen
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % max(torch.cuda.device_count(), 1))


@contextmanager
def process_group(device: torch.device | None = None) -> Iterator[Share]:
    """While the context lasts, torchrun's processes know of each other; gives the share of this one.

    Args:
        device: where the tensors lie that the processes exchange (the CPU): GPUs talk by nccl, CPUs by gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Share()
        return
    on_gpu = device is not None and device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Share(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
