"""A run that diverges keeps its last finite checkpoint, and can go on from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lwta import LWTA
from lwta.support.processes import launched
from lwta.training import Recipe, TensorBatches, train
from lwta.training.trainer import Trainer
from tests.support.processes import together

RECIPE = Recipe(epochs=3, batch_size=8, optimizer="momentum", lr=0.01)


def batches() -> TensorBatches:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(256, (64, 3, 4, 4), dtype=torch.uint8, generator=generator)
    return TensorBatches(inputs, torch.arange(64) % 3, 8, shuffle=True)


class Failing(nn.Module):
    """Lets responses through, but for one step, in which they become infinite."""

    def __init__(self, step: int | None) -> None:
        super().__init__()
        self.left = step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and self.left is not None:
            self.left -= 1
            if self.left == 0:
                return x * float("inf")
        return x

    def extra_repr(self) -> str:
        return ""


def network(failing: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 24), LWTA(6), Failing(failing), nn.Linear(24, 3))


def run(model: nn.Module, out: Path | None, **settings: Any) -> nn.Module:
    settings = {"checkpoint_every": 1, **settings}
    return train(model, (batches(), None), recipe=RECIPE, device="cpu", out=out, progress=False, **settings).model


def saved(out: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(out / "checkpoint.pt", weights_only=True)
    return state


@pytest.mark.slow
@pytest.mark.parametrize("ema", [None, 0.9])
def test_the_last_finite_checkpoint_stays(tmp_path: Path, ema: float | None) -> None:
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"no longer finite in epoch 0; lower lr or set clip_grad, and the run goes"
        ):
            run(network(), tmp_path, lr=1e6, ema=ema)
        assert all(value.isfinite().all() for value in saved(tmp_path)["model"].values())
    assert saved(tmp_path)["step"] > 0


def test_without_a_checkpoint_any_setting_may_follow(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no longer finite in epoch 0; lower lr or set clip_grad$"):
        run(network(3), tmp_path, checkpoint_every=None)
    assert list(tmp_path.iterdir()) == []
    run(network(), tmp_path, lr=0.001, checkpoint_every=None)


def test_a_run_that_diverged_goes_on_with_a_lower_rate(tmp_path: Path) -> None:
    """The 12th step fails: the checkpoint is of the third step of the second epoch."""
    with pytest.raises(
        ValueError, match=r"the loss is no longer finite in epoch 1; .* from its last finite checkpoint"
    ):
        run(network(12), tmp_path)
    assert (saved(tmp_path)["epoch"], saved(tmp_path)["step"]) == (1, 3)
    with pytest.raises(ValueError, match=r"other settings \(weight_decay 0\.0, now 0\.1\)"):
        run(network(), tmp_path, lr=0.001, weight_decay=0.1)
    run(network(), tmp_path, lr=0.001, clip_grad=1.0)
    state = saved(tmp_path)
    assert (state["settings"]["lr"], state["settings"]["clip_grad"], state["epoch"]) == (0.001, 1.0, 3)
    assert [row["lr"] < 0.001 for row in state["history"]] == [False, True, True]
    assert not (tmp_path / "diverged.json").exists()
    with pytest.raises(ValueError, match=r"other settings \(lr 0\.001, now 0\.01;"):
        run(network(), tmp_path)


def test_the_same_settings_repeat_the_run_up_to_where_it_diverged(tmp_path: Path) -> None:
    whole = run(network(), tmp_path / "whole")
    with pytest.raises(ValueError, match="no longer finite"):
        run(network(12), tmp_path / "twice")
    again = run(network(), tmp_path / "twice")
    assert torch.equal(again[1].weight, whole[1].weight)


def test_weights_that_are_lost_in_the_last_step_are_noticed(tmp_path: Path) -> None:
    """The loss of a step is that of the weights before it."""
    model = network()
    model[1].weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(ValueError, match="the weights are no longer finite in epoch 0; lower lr"):
        run(model, tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_buffer_that_is_infinite_by_design_is_no_divergence(tmp_path: Path) -> None:
    model = network()
    model[2].register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    run(model, tmp_path, epochs=1)


def test_a_checkpoint_of_version_0_1_0_whose_weights_are_lost_is_refused(tmp_path: Path) -> None:
    run(network(), tmp_path, epochs=1)
    state = saved(tmp_path)
    del state["lwta_checksum"], state["settings"]["network"]
    state["model"]["1.weight"][0] = float("nan")
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(
        ValueError, match=r"the weights in .*checkpoint\.pt are not finite; begin anew in another folder"
    ):
        run(network(), tmp_path, epochs=1)


@pytest.mark.parametrize("failing", [1, 5, 8])
def test_steps_that_overflow_in_float16_are_passed_over(tmp_path: Path, failing: int) -> None:
    """The first, one in the middle, and the last step of an epoch."""
    model = run(network(failing), tmp_path, amp="float16", epochs=1)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert saved(tmp_path)["sums"] == [[0.0, 0.0, 0.0]]
    assert 0 < saved(tmp_path)["history"][0]["train_loss"] < 10


def test_a_run_all_of_whose_steps_overflow_diverged() -> None:
    model = network()
    model[3].register_forward_hook(lambda *_: _[2] * float("inf"))
    with pytest.raises(ValueError, match="the loss is no longer finite in epoch 0"):
        run(model, None, amp="float16")


def test_values_are_looked_at_only_where_an_epoch_ends_or_a_checkpoint_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To look at them waits for the device."""
    looked = []
    finite = Trainer._finite_sums
    monkeypatch.setattr(Trainer, "_finite_sums", lambda self: (looked.append(self.step), finite(self))[1])
    run(network(), None, epochs=1)
    assert looked == [8]


class FailingInOne(nn.Module):
    """Finite in the backward pass; the loss alone is lost, in the second of two processes."""

    steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += self.training
        lost = self.steps == 6 and launched().rank == 1
        return x.masked_fill(torch.ones_like(x, dtype=torch.bool), float("nan")) if lost else x


def diverging(rank: int, out: Path) -> None:
    """One of two processes; what went wrong is written to a file."""
    torch.manual_seed(0)
    inputs, targets = torch.randint(256, (40, 1, 4, 4), dtype=torch.uint8), torch.arange(40) % 2
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), LWTA(2), nn.Linear(8, 2), FailingInOne())
    batches = TensorBatches(inputs, targets, 10, group=launched(), shuffle=True)
    recipe = Recipe(epochs=2, batch_size=10, optimizer="momentum", lr=0.1)
    with pytest.raises(ValueError, match="finite") as raised:
        train(model, (batches, None), recipe=recipe, out=out, device="cpu", checkpoint_every=1, progress=False)
    (out / f"said{rank}").write_text(str(raised.value))


@pytest.mark.slow
def test_processes_decide_together(tmp_path: Path) -> None:
    """The loss of one of two is lost in the second step of the second epoch: both end, and the checkpoint stays."""
    together(diverging, tmp_path)
    said = [(tmp_path / f"said{rank}").read_text() for rank in range(2)]
    assert said[0] == said[1]
    assert "no longer finite in epoch 1" in said[0]
    assert (saved(tmp_path)["epoch"], saved(tmp_path)["step"]) == (1, 1)
