"""Processes of their own for tests, begun by one that has imported already what takes seconds to import."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["lwta.dissection", "lwta.dissection.words.clip", "lwta.training", "torchvision.transforms.v2.functional"]
)


def together(function: Callable[..., object], *arguments: Any, count: int = 2) -> None:
    """Run ``function(rank, *arguments)`` in each of some processes at once, to their ends.

    They find each other as those of torchrun do.

    Raises:
        torch.multiprocessing.ProcessException: a process failed.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    run = partial(_as_of_torchrun, function, count, port)
    torch.multiprocessing.start_processes(run, arguments, count, start_method="forkserver")


def _as_of_torchrun(function: Callable[..., object], count: int, port: int, rank: int, *arguments: Any) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    function(rank, *arguments)
