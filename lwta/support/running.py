"""Running a network: on which device, in which mode, on which batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the network's parameters and buffers; the CPU if it has none."""
    return next(chain(model.parameters(), model.buffers()), torch.empty(0)).device


def inputs_of(loader: Iterable[Any], device: torch.device, limit: int | None = None) -> Iterator[Tensor]:
    """Yield the inputs of at most ``limit`` batches, each a tensor or a sequence that begins with one, on the device.

    Raises:
        TypeError: a batch is neither a tensor nor such a sequence.
        ValueError: there is no batch.
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
def evaluating(model: nn.Module, device: torch.device | str | None = None) -> Iterator[torch.device]:
    """Context in which the network is in eval mode and on a device; afterwards every module is as it was.

    Args:
        model: the network.
        device: device to run it on; None for the one it is on.

    Returns:
        The device, as the context's value.
    """
    home = device_of(model)
    place = home if device is None else torch.device(device)
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        if place != home:
            model.to(place)
        yield place
    finally:
        for module in training:
            module.training = True
        if place != home:
            model.to(home)
