"""The preprocessing that belongs to a network."""

from __future__ import annotations

import open_clip
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torchvision.models import ResNet18_Weights
from torchvision.transforms.v2.functional import center_crop, normalize, resize

from lwta.dissection import ClipEncoder
from lwta.dissection.recording.preprocessing import default_transform, find_transform
from tests.support.worlds import to_tensor

IMAGE = Image.radial_gradient("L").convert("RGB").resize((300, 260))


def test_that_of_timm() -> None:
    model = timm.create_model("test_vit.r160_in1k")
    assert default_transform(model)(IMAGE).shape == (3, 160, 160)
    assert find_transform(None, model)(IMAGE).shape == (3, 160, 160)


@pytest.mark.parametrize("weights", [ResNet18_Weights.IMAGENET1K_V1, "ResNet18_Weights.IMAGENET1K_V1"])
def test_that_of_weights_of_torchvision(weights: ResNet18_Weights | str) -> None:
    expected = to_tensor(center_crop(resize(IMAGE, [256], antialias=True), [224, 224]))
    expected = normalize(expected, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(find_transform(weights, nn.Identity())(IMAGE), expected)


def test_a_preset_of_torchvision_and_any_callable_are_taken_as_they_are() -> None:
    preset = ResNet18_Weights.DEFAULT.transforms()
    assert find_transform(preset, nn.Identity()) is preset
    assert find_transform(to_tensor, nn.Identity()) is to_tensor


def test_that_of_open_clip() -> None:
    config = {"size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    tower = nn.Identity()
    open_clip.set_model_preprocess_cfg(tower, config)
    for model in (tower, nn.ModuleDict({"visual": tower})):
        model = model if model is tower else type("CLIP", (nn.Module,), {"visual": tower})()
        image = default_transform(model)(Image.new("RGB", (64, 40), "white"))
        torch.testing.assert_close(image, torch.full((3, 32, 32), 2.0))
    assert ClipEncoder("tiny").preprocess(IMAGE).ndim == 3


def test_what_is_no_preprocessing() -> None:
    with pytest.raises(ValueError, match="transform must be given, since Linear has no pretrained_cfg"):
        find_transform(None, nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"name of weights of torchvision, such as .* got 'ResNet18'"):
        find_transform("ResNet18", nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"got 'ResNet18_Weights\.NONE'"):
        find_transform("ResNet18_Weights.NONE", nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"transform must be a callable .* got int"):
        find_transform(3, nn.Linear(2, 2))  # type: ignore[arg-type]


def test_default_transform_is_that_of_timm() -> None:
    import timm

    model = timm.create_model("test_vit.r160_in1k")
    assert default_transform(model)(Image.new("RGB", (200, 300))).shape == (3, 160, 160)
    with pytest.raises(ValueError, match="transform must be given, since Linear has no pretrained_cfg"):
        default_transform(torch.nn.Linear(2, 2))
