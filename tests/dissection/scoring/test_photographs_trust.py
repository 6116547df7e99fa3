"""Labels of a real network on real photographs, chosen on one half of them and judged on the other."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from lwta.dissection.labels.choosing import choose
from lwta.dissection.recording.activations import DenseActivations
from lwta.dissection.scoring.trust_figures import rotated, shuffled, trust_figures, verdict
from lwta.dissection.similarity import Linear, SoftWPMI, Words
from lwta.dissection.similarity.base import contrasts
from lwta.dissection.trust.ceiling import ceiling
from lwta.dissection.trust.cross_validation import HeldOut
from tests.support.similarities import pieces, scored, shards
from tests.support.trust import moments_by_fold
from tests.support.worlds import recorded

pytestmark = pytest.mark.slow
WORDS = 5


def last_block(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """Mean over the positions of the last block of a ResNet of three stages for CIFAR-10, (n, 64)."""

    def normalised(x: Tensor, name: str) -> Tensor:
        parts = (weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts)

    x = normalised(F.conv2d(images, weights["conv1.weight"], padding=1), "bn1").relu()
    blocks = [name.removesuffix(".conv1.weight") for name in weights if name.endswith(".conv1.weight")]
    for block in sorted(blocks):
        first, second = weights[f"{block}.conv1.weight"], weights[f"{block}.conv2.weight"]
        stride = 1 if first.shape[0] == first.shape[1] else 2
        y = normalised(F.conv2d(x, first, stride=stride, padding=1), f"{block}.bn1").relu()
        y = normalised(F.conv2d(y, second, padding=1), f"{block}.bn2")
        if stride == 2:
            padding = (second.shape[0] - x.shape[1]) // 2
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, padding, padding))
        x = (x + y).relu()
    return x.mean((2, 3))


class Seen(NamedTuple):
    """Photographs as the network and CLIP see them, and the words."""

    activations: Tensor
    features: Tensor
    texts: Tensor


@pytest.fixture(scope="module")
def seen(shared_data: Path) -> Seen:
    arrays = np.load(shared_data / "caltech101-val-clip-vit-b-32.npz")
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    images = []
    with zipfile.ZipFile(shared_data / "caltech101-val.zip") as archive:
        for path in arrays["image_paths"]:
            image = Image.open(BytesIO(archive.read(str(path)))).convert("RGB")
            side, (width, height) = min(image.size), image.size
            left, top = (width - side) // 2, (height - side) // 2
            small = image.resize((32, 32), Image.Resampling.BOX, (left, top, left + side, top + side))
            images.append((torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255 - mean) / deviation)
    network = np.load(shared_data / "resnet20-cifar10.npz")
    weights = {name: torch.from_numpy(network[name]).float() for name in network.files}
    with torch.inference_mode():
        activations = torch.cat([last_block(weights, part) for part in torch.stack(images).split(256)]).clone()
    features, texts = (
        F.normalize(torch.from_numpy(arrays[name]).float(), dim=1) for name in ("image_features", "text_features")
    )
    return Seen(activations.clone(), features, texts)


Labeler = Callable[[Tensor, Tensor, Tensor], Words]


def linear(activations: Tensor, features: Tensor, texts: Tensor) -> Words:
    none = torch.zeros(len(features), dtype=torch.int64)
    return Linear(WORDS).paths(moments_by_fold(activations, features, none, 1).statistics(), texts)[-1]


def soft_wpmi(activations: Tensor, features: Tensor, texts: Tensor) -> Words:
    parts = shards(features, activations, pieces(len(features), len(features)))
    return Words.single(scored(SoftWPMI(), parts, texts))


def judged(seen: Seen, choose_words: Labeler, seed: int) -> tuple[float, float]:
    """Share of neurons told apart and mean r on the half of the photographs by which the words were not chosen."""
    half = torch.rand(len(seen.features), generator=torch.Generator().manual_seed(seed)) < 0.5
    moments = moments_by_fold(seen.activations, seen.features, half.long(), 2, size=500)
    words = choose_words(seen.activations[half], seen.features[half], seen.texts)
    known = moments.statistics([1])
    held_out = HeldOut(moments.neurons)
    held_out.add(known, [moments.statistics([0])], words.directions(known, contrasts(seen.texts.double())))
    r = held_out.matrix().nan_to_num(nan=-2)
    return float((r.argmax(1) == torch.arange(len(r))).double().mean()), float(held_out.own().nanmean())


def test_five_weighted_words_tell_neurons_apart_that_one_word_does_not(seen: Seen) -> None:
    figures = {make: torch.tensor([judged(seen, make, seed) for seed in range(3)]) for make in (linear, soft_wpmi)}
    apart, r = ({make: float(found[:, k].mean()) for make, found in figures.items()} for k in (0, 1))
    assert apart[linear] > 0.7
    assert apart[linear] > 3 * apart[soft_wpmi]
    assert r[linear] > r[soft_wpmi] + 0.08


def test_shuffled_activations_get_no_labels(seen: Seen) -> None:
    for name in ("linear", "soft_wpmi", "correlation", "specific", "peak"):
        recording = recorded(DenseActivations(shuffled(seen.activations)), seen.features)
        trust = choose(recording, name, seen.texts)["layer"].trust
        figures = trust_figures(name, trust, recording.active("layer"))
        assert figures.labelled == 0, name
        assert abs(figures.r) < 0.05


def test_what_is_said_of_the_layer(seen: Seen) -> None:
    recording = recorded(DenseActivations(seen.activations), seen.features)
    trust = choose(recording, "linear", seen.texts)["layer"].trust
    layer = trust_figures("layer", trust, recording.active("layer"))
    assert layer.labelled > 0.5
    assert layer.r > 0.35
    assert verdict(layer, "layer") is None
    rows = torch.arange(len(seen.features)) % 8
    assert float(ceiling(moments_by_fold(seen.activations, seen.features, rows, size=500)).mean()) > layer.r + 0.05
    turned = recorded(DenseActivations(rotated(seen.activations)), seen.features)
    axes = choose(turned, "linear", seen.texts)["layer"].trust
    assert float(axes.r.mean()) > layer.r - 0.15  # the axes of this layer mean no more than others
