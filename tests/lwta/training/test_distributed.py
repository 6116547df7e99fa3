"""Two processes that train one network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lwta import LWTA
from lwta.support.processes import launched
from lwta.training import Recipe, TensorBatches, train
from tests.support.processes import together


def trained(rank: int, out: Path) -> None:
    """One of some processes; the weights are written to a file."""
    torch.manual_seed(0)
    inputs, targets = torch.randint(256, (40, 1, 4, 4), dtype=torch.uint8), torch.arange(40) % 2
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), LWTA(1), nn.Linear(8, 2))
    recipe = Recipe(epochs=2, batch_size=10, optimizer="momentum", lr=0.1)
    batches = (TensorBatches(inputs, targets, 10, group=launched(), shuffle=shuffle) for shuffle in (True, False))
    result = train(model, tuple(batches), recipe=recipe, out=out, device="cpu")  # type: ignore[arg-type]
    assert result.evaluations["argmax"].images == 40
    torch.save(model.state_dict(), out / f"weights{rank}.pt")


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    """Without competition the gradient of a shared batch is that of the whole batch; both end with equal weights."""
    together(trained, tmp_path / "one", count=1)
    together(trained, tmp_path / "two")
    one, first, second = (
        torch.load(tmp_path / path) for path in ("one/weights0.pt", "two/weights0.pt", "two/weights1.pt")
    )
    for name, tensor in one.items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(tensor, first[name], atol=1e-6)
