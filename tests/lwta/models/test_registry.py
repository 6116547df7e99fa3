"""Networks by name: who competes where, and what stays as in the ordinary network."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from lwta import LWTA, LWTAMlp, competitions, create_model, list_models


def shares_of_active_units(model: nn.Module, x: Tensor) -> list[float]:
    shares: list[float] = []
    for _, layer in competitions(model):
        layer.register_forward_hook(lambda _m, _i, y: shares.append((y != 0).double().mean().item()))
    with torch.inference_mode():
        model(x)
    return shares


def parameters(model: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("fused", [False, True])
def test_deit_tiny_with_24_competitors(fused: bool) -> None:
    import timm

    model = create_model("deit_tiny", competitors=24, fused=fused).eval()
    assert parameters(model) == parameters(timm.create_model("deit_tiny_patch16_224"))
    shares = shares_of_active_units(model, torch.randn(1, 3, 224, 224))
    assert shares == pytest.approx([1 / 24] * 12, abs=1e-12)
    assert isinstance(model.blocks[0].mlp, LWTAMlp) is fused


def test_fused_and_plain_transformers_are_the_same_function() -> None:
    plain = create_model("vit_cifar", 8, eval_mode="argmax").eval()
    fused = create_model("vit_cifar", 8, eval_mode="argmax", fused=True).eval()
    fused.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(plain(x), fused(x), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "layers"), [("resnet18", 17), pytest.param("resnet50", 49, marks=pytest.mark.slow), ("resnet20", 19)]
)
def test_every_call_of_a_relu_has_a_competition_of_its_own(name: str, layers: int) -> None:
    model = create_model(name, competitors=4, num_classes=7).eval()
    size = 32 if name == "resnet20" else 64
    assert shares_of_active_units(model, torch.randn(2, 3, size, size)) == pytest.approx([1 / 4] * layers, abs=1e-12)
    assert parameters(model) == parameters(create_model(name, competitors=1, num_classes=7))
    assert not any(isinstance(module, nn.ReLU) for module in model.modules())


def test_resnet20_is_that_of_the_paper() -> None:
    """0.27 million parameters (table 6); the 1×1 shortcuts add 16·32 + 32·64 weights and two batch norms."""
    model = create_model("resnet20", 1)
    assert sum(p.numel() for name, p in model.named_parameters() if "downsample" not in name) == 269722
    assert sum(p.numel() for p in model.parameters()) == 269722 + 16 * 32 + 32 * 64 + 2 * 32 + 2 * 64
    x, maps = torch.randn(1, 3, 32, 32), []
    for stage in (model.layer1, model.layer2, model.layer3):
        stage.register_forward_hook(lambda _m, _i, y: maps.append(tuple(y.shape[1:])))
    model(x)
    assert maps == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


@pytest.mark.parametrize("name", list_models())
def test_one_competitor_is_the_ordinary_network(name: str) -> None:
    model = create_model(name, competitors=1, num_classes=5)
    assert list(competitions(model)) == []
    assert any(isinstance(module, nn.ReLU | nn.GELU) for module in model.modules())


def test_settings_reach_the_layers_and_the_preprocessing() -> None:
    model = create_model("deit_tiny", 8, class_names=("cat", "dog"), input_size=96, temperature=0.5, track_kl=True)
    layers = [layer for _, layer in competitions(model)]
    assert {(layer.competitors, layer.temperature, layer.track_kl) for layer in layers} == {(8, 0.5, True)}
    assert model(torch.randn(1, 3, 96, 96)).shape == (1, 2)
    assert model.pretrained_cfg["input_size"] == (3, 96, 96)
    assert isinstance(create_model("resnet18", 2).relu, LWTA)


@pytest.mark.parametrize(
    ("name", "before"),
    [("resnet20", {"bn1"}), ("resnet18", {"bn1"}), pytest.param("resnet50", {"bn1", "bn2"}, marks=pytest.mark.slow)],
)
def test_norm_scale_is_of_the_norms_before_a_competition_within_a_branch(name: str, before: set[str]) -> None:
    model = create_model(name, 4, norm_scale=3.0)
    scales = {key: norm.weight for key, norm in model.named_modules() if isinstance(norm, nn.BatchNorm2d)}
    assert {key.split(".")[-1] for key, scale in scales.items() if scale.eq(3).all()} == before
    assert all(scale.eq(3 if key.split(".")[-1] in before else 1).all() for key, scale in scales.items())
    ordinary = create_model(name, 1, norm_scale=3.0)
    assert all(norm.weight.eq(1).all() for norm in ordinary.modules() if isinstance(norm, nn.BatchNorm2d))


def test_errors_name_what_was_wrong() -> None:
    with pytest.raises(ValueError, match=r"name must be one of .*'deit_tiny'.*, got 'deit'"):
        create_model("deit")
    with pytest.raises(ValueError, match=r"competitors=5 for blocks\.0\.mlp with 768 units"):
        create_model("deit_tiny", 5)
    with pytest.raises(ValueError, match=r"competitors=3 does not divide the width of relu \(16 units\)"):
        create_model("resnet20", 3)
    with pytest.raises(ValueError, match="class_names must be num_classes=3 names, got 2"):
        create_model("resnet20", 2, 3, class_names=("a", "b"))
    with pytest.raises(ValueError, match="settings of transformers, which resnet18 is not"):
        create_model("resnet18", 2, fused=True)
    with pytest.raises(ValueError, match="settings of residual networks, which deit_tiny is not"):
        create_model("deit_tiny", 8, norm_scale=4.0)
    with pytest.raises(ValueError, match="norm_scale must be positive and finite, got nan"):
        create_model("resnet20", norm_scale=float("nan"))
    with pytest.raises(ValueError, match="temperature must be positive and finite, got 0"):
        create_model("resnet20", temperature=0)


def test_importing_lwta_loads_no_model_library() -> None:
    slow = "{'timm', 'torchvision', 'open_clip', 'torch._dynamo', 'torch._inductor'}"
    code = f"import sys, lwta, lwta.cli; print({slow} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
