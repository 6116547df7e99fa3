"""Two processes that train one network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import sys, torch
from torch import nn
from lwta import LWTA
from lwta.training import Group, Recipe, TensorBatches, train
import os
group = Group(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))
torch.set_num_threads(1)
torch.manual_seed(0)
inputs, targets = torch.randint(256, (40, 1, 4, 4), dtype=torch.uint8), torch.arange(40) % 2
model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), LWTA(int(sys.argv[2])), nn.Linear(8, 2))
recipe = Recipe(epochs=2, batch_size=10, optimizer="momentum", lr=0.1)
def batches(**options):
    return TensorBatches(inputs, targets, 10, group=group, **options)
result = train(model, (batches(shuffle=True), batches()), recipe=recipe, out=sys.argv[1], device="cpu")
assert result.evaluations["argmax"].images == 40
torch.save(model.state_dict(), f"{sys.argv[1]}/weights{group.rank}.pt")
"""


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    """Without competition the gradient of a shared batch is that of the whole batch; both end with equal weights."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for launcher, out in (([sys.executable], "one"), (torchrun, "two")):
        command = [*launcher, str(script), str(tmp_path / out), "1"]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    one, first, second = (
        torch.load(tmp_path / path) for path in ("one/weights0.pt", "two/weights0.pt", "two/weights1.pt")
    )
    for name, tensor in one.items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(tensor, first[name], atol=1e-6)
