"""What concerns all layers of a network at once."""

import pytest
import torch
from torch import nn

from lwta import LWTA, average_logits, functional, kl_divergence, set_eval_mode, set_temperature


def _network(**keywords: bool) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), LWTA(2, **keywords), nn.Linear(8, 6), LWTA(3, **keywords))


def test_kl_divergence_sums_over_layers_and_has_a_gradient() -> None:
    model = _network(track_kl=True)
    x = torch.randn(5, 4)
    h1 = model[0](x)
    torch.manual_seed(1)
    y1 = model[1](h1)
    h2 = model[2](y1)
    model[3](h2)
    kl = kl_divergence(model)
    expected = functional.kl_to_uniform(h1, 2) + functional.kl_to_uniform(h2, 3)
    assert torch.allclose(kl, expected)
    kl.backward()
    assert model[0].weight.grad.abs().sum() > 0


def test_kl_divergence_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="build the layers with track_kl=True"):
        kl_divergence(_network())
    with pytest.raises(ValueError, match="layer '1' has no KL yet"):
        kl_divergence(_network(track_kl=True))
    with pytest.raises(ValueError, match=r"Linear has none; see lwta\.convert"):
        kl_divergence(nn.Linear(2, 2))


def test_settings_reach_every_layer() -> None:
    model = _network()
    set_temperature(model, 0.3)
    set_eval_mode(model, "argmax")
    assert [(layer.temperature, layer.eval_mode) for layer in (model[1], model[3])] == [(0.3, "argmax")] * 2
    with pytest.raises(ValueError, match="temperature must be positive and finite, got -1"):
        set_temperature(model, -1)
    with pytest.raises(ValueError, match="eval_mode must be one of"):
        set_eval_mode(model, "mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has none"):
        set_temperature(nn.Linear(2, 2), 1.0)


def test_average_logits_tends_to_the_expectation() -> None:
    """One layer: the expected output is Σ π_u·h_u; the error of 1,000 draws is within six standard errors."""
    layer = LWTA(4).eval()
    x = torch.tensor([[1.0, 0.5, -0.3, 0.1]])
    pi = torch.softmax(x, -1)
    deviation = (pi * x**2 - (pi * x) ** 2).sqrt()
    mean = average_logits(layer, x, draws=1000)
    assert ((mean - pi * x).abs() <= 6 * deviation / 1000**0.5).all()
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        average_logits(layer, x, draws=0)
