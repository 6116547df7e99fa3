"""A run that is killed in the middle of an epoch ends with the weights of one that was not."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lwta import LWTA
from lwta.training import Recipe, TensorBatches, crop_and_flip, train
from tests.support.processes import processes


class KilledAt(nn.Module):
    """Adds noise, and kills the process in one of its forward passes."""

    def __init__(self, forward: int) -> None:
        super().__init__()
        self.left = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.left -= self.training
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        noise = random.random() + np.random.rand()
        return x + 0.01 * noise if self.training else x


def training(out: Path, forward: int, seed: int) -> None:
    """A run in a process of its own, whose weights are written to a file."""
    torch.set_num_threads(1)
    np.random.seed()  # as in every new process; it was begun by one that had drawn nothing yet
    torch.manual_seed(5)
    inputs, targets = torch.randint(256, (70, 3, 8, 8), dtype=torch.uint8), torch.randint(3, (70,))
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), LWTA(4, track_kl=True), nn.Dropout(0.1), nn.Flatten()]
    model = nn.Sequential(KilledAt(forward), *layers, nn.Linear(288, 3))
    recipe = Recipe(
        epochs=3,
        batch_size=16,
        optimizer="adamw",
        lr=0.01,
        weight_decay=0.1,
        warmup_epochs=1,
        clip_grad=1.0,
        ema=0.9,
        kl_weight=0.01,
        temperature_schedule="cosine",
    )
    batches = TensorBatches(inputs, targets, 16, augment=crop_and_flip, seed=seed, shuffle=True)
    test = TensorBatches(inputs[:20], targets[:20], 16)
    result = train(model, (batches, test), recipe=recipe, out=out, seed=seed, device="cpu", checkpoint_every=1, draws=2)
    torch.save({"raw": model.state_dict(), "ema": result.model.state_dict()}, out / "weights.pt")


def run(out: Path, kill_at: int = 10**9, seed: int = 0) -> int | None:
    process = processes.Process(target=training, args=(out, kill_at, seed))
    process.start()
    process.join(120)
    return process.exitcode


def weights(out: Path) -> list[torch.Tensor]:
    state = torch.load(out / "weights.pt", weights_only=True)
    return [*state["raw"].values(), *state["ema"].values()]


def rows(out: Path) -> list[list[str]]:
    """The log without the column of seconds."""
    header, *lines = [line.split(",") for line in (out / "log.csv").read_text().splitlines()]
    return [[cell for name, cell in zip(header, line, strict=True) if name != "seconds"] for line in lines]


@pytest.mark.slow
def test_killed_and_resumed(tmp_path: Path) -> None:
    """4 steps an epoch: killed in the second and in the last one."""
    assert run(tmp_path / "whole") == 0
    assert run(tmp_path / "killed", kill_at=7) == -signal.SIGKILL
    assert run(tmp_path / "killed", kill_at=5) == -signal.SIGKILL
    position = torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)
    assert (position["epoch"], position["step"]) == (2, 2)
    assert run(tmp_path / "killed") == 0
    assert all(
        torch.equal(a, b) for a, b in zip(weights(tmp_path / "whole"), weights(tmp_path / "killed"), strict=True)
    )
    assert rows(tmp_path / "whole") == rows(tmp_path / "killed")
    assert (tmp_path / "whole/result.json").read_text() == (tmp_path / "killed/result.json").read_text()
    assert not [name for name in os.listdir(tmp_path / "killed") if name.startswith(".")]
    assert run(tmp_path / "other", seed=1) == 0
    assert not torch.equal(weights(tmp_path / "whole")[0], weights(tmp_path / "other")[0])
