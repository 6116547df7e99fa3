"""Batches from whatever yields them, and a network run on them as it is in evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn


def device_of(model: nn.Module) -> torch.device:
    """Where the network's parameters and buffers are; the CPU, if it has none."""
    return next(chain(model.parameters(), model.buffers()), torch.empty(0)).device


def inputs_of(loader: Iterable[Any], device: torch.device, limit: int | None = None) -> Iterator[Tensor]:
    """The inputs of at most ``limit`` batches, each a tensor or a sequence that begins with one, on the device.

    Raises:
        TypeError: a batch is neither.
        ValueError: there is none.
    """
    number = 0
    for batch in islice(loader, limit):
        inputs = batch[0] if isinstance(batch, list | tuple) and batch else batch
        if not isinstance(inputs, Tensor):
            raise TypeError(f"loader must yield tensors or sequences that begin with one, got {type(batch).__name__}")
        number += 1
        yield inputs.to(device, non_blocking=True)
    if not number:
        raise ValueError("loader must yield at least one batch, got none")


@contextmanager
def evaluating(model: nn.Module, seed: int) -> Iterator[None]:
    """Eval mode, no gradient, and winners drawn from ``seed``; mode and generators come back afterwards."""
    modes = {module: module.training for module in model.modules()}
    device = device_of(model)
    devices = [device] if device.type == "cuda" else []
    try:
        model.eval()
        with torch.random.fork_rng(devices), torch.inference_mode():
            torch.manual_seed(seed)
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
