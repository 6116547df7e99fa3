"""Statistics of batch norms under argmax."""

import pytest
import torch
from torch import nn

from lwta import LWTA, calibrate


def test_statistics_are_those_of_the_winners_without_noise() -> None:
    norm = nn.BatchNorm1d(8, momentum=0.3)
    model = nn.Sequential(LWTA(4), norm, nn.Dropout(0.5))
    model(torch.randn(64, 8) + 3)
    x = torch.randn(400, 8)
    state = torch.get_rng_state()
    assert calibrate(model, x.split(100)) is model
    assert torch.equal(torch.get_rng_state(), state)
    y = torch.zeros(400, 2, 4).scatter_(2, x.view(-1, 2, 4).argmax(2, keepdim=True), 1).view(400, 8) * x
    assert torch.allclose(norm.running_mean, y.mean(0), atol=1e-6)
    assert torch.allclose(norm.running_var, torch.stack([part.var(0) for part in y.split(100)]).mean(0), atol=1e-5)
    assert (norm.momentum, norm.training, model[0].training, model[0].eval_mode) == (0.3, True, True, "argmax")


def test_layers_upon_layers_and_back_again() -> None:
    """Each norm sees what the layers before it give under argmax with the batch's own statistics."""
    model = nn.Sequential(nn.Linear(6, 8), LWTA(2), nn.BatchNorm1d(8), nn.Linear(8, 4), LWTA(2), nn.BatchNorm1d(4))
    x = torch.randn(200, 6)
    calibrate(model, [(x, None)], batches=1)
    with torch.inference_mode():
        model[1].eval(), model[4].eval()
        expected = model.train()[:4].requires_grad_(False)
        model[1].eval()
        h = expected(x)
        y = torch.where(h == h.view(-1, 2, 2).amax(2, keepdim=True).expand(-1, -1, 2).reshape(h.shape), h, 0)
    assert torch.allclose(model[5].running_mean, y.mean(0), atol=1e-5)
    weights = [parameter.clone() for parameter in model.parameters()]
    calibrate(model, [x], mode="sample")
    assert model[1].eval_mode == "sample"
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


def test_errors_leave_the_momentum() -> None:
    model = nn.Sequential(LWTA(2), nn.BatchNorm1d(4))
    with pytest.raises(ValueError, match="at least one batch"):
        calibrate(model, [])
    assert model[1].momentum == 0.1
    with pytest.raises(ValueError, match="has none"):
        calibrate(nn.Linear(2, 2), [torch.randn(1, 2)])
