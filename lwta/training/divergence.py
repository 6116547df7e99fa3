"""Divergence of a run: the check that weights are finite, and the note in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lwta.support.files import write_atomically

DIVERGED = "diverged.json"
"""File in a run's folder; it exists as long as the run has not come past the checkpoint after which it diverged."""
REMEDIES = ("lr", "clip_grad")
"""Names of the settings with which a run that diverged may go on."""


def finite_tensors(model: nn.Module) -> list[str]:
    """Return the names of the parameters and buffers that are floating-point numbers and finite."""
    return [name for name, value in model.state_dict().items() if _is_finite(value)]


def count_broken(models: Iterable[nn.Module], names: Iterable[str], device: torch.device) -> Tensor:
    """Return how many of the parameters and buffers with these names are not finite, a 0-dim float64 tensor.

    The result stays on the device, so that counting does not wait for it.
    """
    broken = torch.zeros((), dtype=torch.float64, device=device)
    for model in models:
        state = model.state_dict()
        for name in names:
            broken += ~state[name].isfinite().all()
    return broken


def note_divergence(folder: Path, epoch: int, step: int) -> None:
    """Write into the folder of a run where it diverged, which lets the run go on with other `REMEDIES`."""
    text = json.dumps({"epoch": epoch, "step": step}) + "\n"
    write_atomically(folder / DIVERGED, lambda file: file.write_text(text, encoding="utf-8"))


def _is_finite(value: Any) -> bool:
    """Return whether an entry of a state dict is a tensor of floating-point numbers, all of them finite."""
    return isinstance(value, Tensor) and value.is_floating_point() and bool(value.isfinite().all())
