"""The processes that torchrun starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed


@contextmanager
def process_group() -> Iterator[int]:
    """While the context lasts, torchrun's processes know of each other; gives the number of this one, 0 if alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    distributed.init_process_group("gloo")  # what dissection exchanges lies on the CPU
    try:
        yield distributed.get_rank()
    finally:
        distributed.destroy_process_group()


def default_device() -> str | None:
    """A GPU for each process of this machine in turn; None without any."""
    if not torch.cuda.is_available():
        return None
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
