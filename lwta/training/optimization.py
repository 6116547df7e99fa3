"""Optimiser, schedules and moving average of a run, as its recipe asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lwta.schedule import TemperatureSchedule
from lwta.training.recipes import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe, steps: int) -> tuple[torch.optim.Optimizer, Any]:
    """Make timm's optimiser, without weight decay on biases and norms, and its learning-rate schedule.

    Args:
        model: the network.
        recipe: settings of optimiser and schedule.
        steps: steps in an epoch; the schedule follows steps, not epochs.
    """
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2

    scale = recipe.batch_size / recipe.lr_batch if recipe.lr_batch else 1.0
    optimizer = create_optimizer_v2(
        model,
        recipe.optimizer,
        lr=recipe.lr * scale,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
    )
    scheduler, _ = create_scheduler_v2(
        optimizer,
        recipe.schedule,
        num_epochs=recipe.epochs,
        decay_epochs=recipe.decay_epochs,
        decay_rate=recipe.decay_rate,
        min_lr=recipe.min_lr,
        warmup_lr=recipe.warmup_lr,
        warmup_epochs=min(recipe.warmup_epochs, recipe.epochs - 1),
        step_on_epochs=False,
        updates_per_epoch=steps,
    )
    return optimizer, scheduler


def make_temperature_schedule(model: nn.Module, recipe: Recipe) -> TemperatureSchedule:
    """Make the schedule of the temperature, with a step an epoch."""
    return TemperatureSchedule(
        model,
        recipe.temperature,
        kind=recipe.temperature_schedule,
        end=recipe.temperature_end,
        factor=recipe.temperature_factor,
        every=recipe.temperature_every,
        total=recipe.epochs,
    )


def make_moving_average(model: nn.Module, decay: float | None) -> Any:
    """Make timm's moving average of the weights; return None without a decay."""
    from timm.utils import ModelEmaV3

    return None if decay is None else ModelEmaV3(model, decay=decay, use_warmup=True)


def wrapped(model: nn.Module, device: torch.device, world_size: int, compile: bool) -> Callable[[Tensor], Tensor]:
    """Return the network as training steps call it: data-parallel with several processes, and compiled on demand."""
    forward: Any = model
    if world_size > 1:
        devices = [device.index] if device.type == "cuda" else None
        forward = nn.parallel.DistributedDataParallel(model, device_ids=devices)
    return torch.compile(forward) if compile else forward
