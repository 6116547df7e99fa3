"""The training loop, its numbers, and evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from lwta import LWTA, create_model, load_model
from lwta.training import RECIPES, Recipe, TensorBatches, find_recipe, train
from lwta.training.trainer import Trainer

SMALL = Recipe(epochs=2, batch_size=16, optimizer="adamw", lr=0.01)


def network(competitors: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.BatchNorm1d(16), LWTA(competitors), nn.Linear(16, 2))


def brightness(n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright and dark images, which any network can tell apart."""
    targets = torch.arange(n) % 2
    return (torch.randint(100, (n, 1, 4, 4)) + 120 * targets.view(-1, 1, 1, 1)).to(torch.uint8), targets


def batches(batch_size: int = 16, seed: int = 0) -> tuple[TensorBatches, TensorBatches]:
    inputs, targets = brightness()
    return (
        TensorBatches(inputs[:160], targets[:160], batch_size, seed=seed, shuffle=True),
        TensorBatches(inputs[160:], targets[160:], batch_size),
    )


def test_it_learns_and_writes_what_it_promises(tmp_path: Path) -> None:
    result = train(network(), batches(), recipe=SMALL, out=tmp_path, device="cpu", progress=False, epochs=8)
    assert result.evaluations["average"].top1 > 0.95
    assert set(result.evaluations) == {"sample", "average", "argmax"}
    assert not result.model.training
    assert json.loads((tmp_path / "result.json").read_text())["average"]["images"] == 40
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert len(rows) == 8
    assert {"train_loss", "test_top1", "active", "entropy", "dead", "kl", "temperature"} <= set(header.split(","))
    assert result.history[-1]["active"] == 0.5
    again = train(network(), batches(), recipe=SMALL, out=tmp_path, device="cpu", progress=False, epochs=8)
    assert again.history == result.history
    with pytest.raises(ValueError, match=r"run with other settings \(lr 0\.01, now 0\.02\)"):
        train(network(), batches(), recipe=SMALL, out=tmp_path, device="cpu", progress=False, epochs=8, lr=0.02)


def test_the_same_seed_gives_the_same_run() -> None:
    def weights(seed: int) -> torch.Tensor:
        model = train(network(), batches(seed=seed), recipe=SMALL, seed=seed, device="cpu", progress=False).model
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    first = weights(3)
    assert torch.equal(first, weights(3))
    assert not torch.equal(first, weights(4))


def test_monitoring_does_not_change_what_is_learned() -> None:
    first, second = network(), network()
    training, test = batches()
    train(first, (training, test), recipe=SMALL, device="cpu", progress=False)
    train(second, (training, None), recipe=SMALL, device="cpu", progress=False)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_step_is_the_one_of_the_mathematics() -> None:
    """One process, plain SGD, no competition: compared with the same steps written out in float32."""
    inputs, targets = brightness(48)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    expected = model[1].weight.detach().clone(), model[1].bias.detach().clone()
    loader = TensorBatches(inputs, targets, 16, shuffle=True)
    recipe = Recipe(epochs=2, batch_size=16, optimizer="momentum", lr=0.1, schedule="step", decay_epochs=1)
    train(model, (loader, None), recipe=recipe, device="cpu", progress=False)

    weight, bias = (part.requires_grad_() for part in expected)
    optimizer = torch.optim.SGD([weight, bias], 0.1, momentum=0.9)
    for epoch in range(2):
        for step, (x, y) in enumerate(loader.epoch(epoch)):
            optimizer.param_groups[0]["lr"] = 0.1 * 0.1 ** ((3 * epoch + step) // 3)
            optimizer.zero_grad()
            nn.functional.cross_entropy(x.flatten(1) @ weight.T + bias, y).backward()
            optimizer.step()
    assert torch.allclose(model[1].weight, weight, atol=1e-6)
    assert torch.allclose(model[1].bias, bias, atol=1e-6)


def trainer(recipe: Recipe) -> Trainer:
    options = {"out": None, "seed": 0, "amp": None, "compile": False, "checkpoint_every": None, "progress": False}
    return Trainer(network(), batches(recipe.batch_size)[0], None, recipe, **options)


def rates(run: Trainer) -> list[float]:
    """The learning rate after each step of the run."""
    seen = []
    for step in range(run.recipe.epochs * len(run.train)):
        run.scheduler.step_update(step + 1)
        seen.append(run.optimizer.param_groups[0]["lr"])
    return seen


def test_the_learning_rates_of_the_recipes() -> None:
    """10 steps an epoch."""
    deit = rates(trainer(find_recipe("deit", batch_size=16)))
    peak = 5e-4 * 16 / 512
    assert deit[24] == pytest.approx(1e-6 + (peak - 1e-6) / 2)
    assert max(deit) == pytest.approx(peak, rel=1e-3)
    assert deit[-1] == pytest.approx(1e-5, rel=1e-3)
    resnet = rates(trainer(find_recipe("resnet", batch_size=16)))
    assert [resnet[epoch * 10 + 5] for epoch in (0, 29, 30, 60, 89)] == pytest.approx([0.1, 0.1, 0.01, 1e-3, 1e-3])
    groups = trainer(RECIPES["deit"].changed(batch_size=16)).optimizer.param_groups
    assert {len(group["params"]): group["weight_decay"] for group in groups} == {4: 0.0, 2: 0.05}  # biases and norm


def test_the_temperature_falls_epoch_by_epoch() -> None:
    model = network()
    recipe = SMALL.changed(epochs=4, temperature=1.5, temperature_schedule="exponential", temperature_every=2)
    history = train(model, batches(), recipe=recipe, device="cpu", progress=False).history
    assert [row["temperature"] for row in history] == [1.5, 1.5, 1.0, 1.0]


def test_the_moving_average_is_what_is_saved(tmp_path: Path) -> None:
    inputs, targets = torch.randint(256, (32, 3, 16, 16), dtype=torch.uint8), torch.arange(32) % 2
    loader = TensorBatches(inputs, targets, 16, shuffle=True)
    model = create_model("resnet20", 4, 2, input_size=16)
    result = train(
        model, (loader, None), recipe=SMALL, out=tmp_path, device="cpu", progress=False, epochs=1, ema=0.5, seed=1
    )
    assert result.model is not model
    assert not torch.equal(result.model.conv1.weight, model.conv1.weight)
    assert torch.equal(load_model(tmp_path / "model").conv1.weight, result.model.conv1.weight)


def test_errors() -> None:
    with pytest.raises(ValueError, match="recipe must be one of deit, resnet, cifar, got 'vit'"):
        find_recipe("vit")
    with pytest.raises(ValueError, match="a recipe has no setting rate; it has epochs"):
        find_recipe("deit", rate=1)
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        find_recipe("deit", epochs=0)
    with pytest.raises(ValueError, match="amp must be one of"):
        train(network(), batches(), recipe=SMALL, amp="float8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no longer finite in epoch 0; lower lr"):
        train(network(), batches(), recipe=SMALL, lr=1e38, optimizer="momentum", device="cpu", progress=False)


@pytest.mark.parametrize("label", [2, 7, -1])
def test_a_label_that_is_no_output_is_named(label: int) -> None:
    inputs, targets = brightness(32)
    targets[5] = label
    wrong, right = (
        TensorBatches(inputs, targets, 16, shuffle=True),
        TensorBatches(inputs, targets % 2, 16, shuffle=True),
    )
    problem = f"labels must lie in 0…1, as the network has 2 outputs, got {label}$"
    with pytest.raises(ValueError, match=problem):
        train(network(), (wrong, None), recipe=SMALL, device="cpu", progress=False)
    with pytest.raises(ValueError, match=problem):
        train(network(), (right, wrong), recipe=SMALL, device="cpu", progress=False)


def test_labels_that_pytorch_leaves_out_of_the_loss_stay_allowed() -> None:
    inputs, targets = brightness(32)
    targets[5] = -100
    batches = TensorBatches(inputs, targets, 16, shuffle=True)
    train(network(), (batches, None), recipe=SMALL, device="cpu", progress=False)


@pytest.mark.parametrize("amp", ["bfloat16", None])
def test_mixed_precision_and_clipping(amp: str | None) -> None:
    result = train(network(), batches(), recipe=SMALL, amp=amp, clip_grad=0.1, epochs=8, device="cpu", progress=False)
    assert result.evaluations["average"].top1 > 0.9
