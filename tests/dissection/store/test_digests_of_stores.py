"""Digests that stores hold stay the same: another one would make the library refuse stores that it has written."""

from __future__ import annotations

import operator
from functools import partial
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from lwta import LWTA
from lwta.dissection import Probe
from lwta.dissection.store.dependencies import contents_in, embedder
from lwta.dissection.store.fingerprint import (
    fingerprint_architecture,
    fingerprint_images,
    fingerprint_probe,
    fingerprint_weights,
)
from lwta.dissection.store.transform_text import describe


class Scale:
    """Says nothing of itself."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image * self.factor


def double(image: torch.Tensor) -> torch.Tensor:
    return image * 2


def network() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 4), LWTA(2))
    with torch.no_grad():
        model[0].weight.copy_(torch.arange(12.0).view(4, 3))
        model[0].bias.fill_(0.5)
    return model


def test_of_a_network() -> None:
    assert fingerprint_weights(network()) == "56faf58a36ab8ae966834d47de58d745"
    assert fingerprint_architecture(network()) == "aeb9df4c17855b796d54816e094326d2"


@pytest.mark.parametrize(
    ("transform", "text"),
    [
        (partial(operator.mul, 2), "partial(<built-in function mul>, [2], {})"),
        ([1, ("a", None)], "[1, ['a', None]]"),
        ({"size": 4}, "{size: 4}"),
        (Scale(2), "<Scale> with Scale.__call__ 3c70ce0ba71b8ac01d98241d9009209e, factor=2"),
        (double, "double 55b45e8501019752963104f045f97049"),
    ],
    ids=["partial", "list", "mapping", "object", "function"],
)
def test_of_a_transform(transform: Any, text: str) -> None:
    assert describe(transform).replace(f"{__name__}.", "") == text


def test_of_a_probe() -> None:
    probe = Probe.of([(name, Image.new("RGB", (2, 2))) for name in ("a", "b")])
    assert fingerprint_probe(probe) == "2 images, 581993c8f0516f25be564457791b3b5e"
    assert fingerprint_images(probe) == {}


def test_parts_about_the_images() -> None:
    parts = {"clip": "c", "precision": "float32", "image CRC": "d", "seed": 0}
    assert contents_in(parts) == {"image CRC": "d"}
    assert embedder(parts) == "c in float32"
