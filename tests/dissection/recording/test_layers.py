"""Layers by name and function, and the functions of their outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lwta.dissection import Layer
from lwta.dissection.moments.folds import FOLDS, fold_of, folds_of
from lwta.dissection.moments.sums import parts_of
from lwta.dissection.recording.activations import DenseActivations
from lwta.dissection.recording.hooks import choose_layers
from lwta.dissection.recording.layers import ROWS, TRANSFORMS, as_layers, transformed
from lwta.dissection.recording.recording import MemoryRecording
from tests.support.worlds import ColourNetwork, activations_of, dissected, embedded, in_batches

KNOWN = ["fc", "act", "odd:softmax"]


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("fc", Layer("fc")),
        ("fc:auto", Layer("fc")),
        ("fc:softmax", Layer("fc", "softmax")),
        ("fc:identity", Layer("fc", transform="identity")),
        ("odd:softmax", Layer("odd:softmax")),  # the name of a module
        ("odd:softmax:sigmoid", Layer("odd:softmax", "sigmoid")),
        ("none:sigmoid", Layer("none", "sigmoid")),
        ("none:nothing", Layer("none:nothing")),
    ],
)
def test_texts_stand_for_layers(text: str, layer: Layer) -> None:
    assert Layer.of(text, KNOWN) == Layer.of(layer, KNOWN) == layer
    assert as_layers(text, KNOWN) == as_layers(layer, KNOWN) == as_layers([text], KNOWN) == [layer]


def test_keys_are_texts_for_the_same_layers() -> None:
    layers = [Layer("fc", transform) for transform in TRANSFORMS]
    assert [layer.key for layer in layers] == ["fc", "fc:identity", "fc:softmax", "fc:sigmoid"]
    assert as_layers([layer.key for layer in layers], KNOWN) == layers


def test_layers_that_are_none() -> None:
    expected = "must be one of 'auto', 'identity', 'softmax', 'sigmoid', got 'softmx'; did you mean 'softmax'"
    for use in (lambda: Layer("fc", "softmx"), lambda: Layer.of("fc:softmx", KNOWN)):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"layers: the transform of 'fc' {expected}"):
            use()
    with pytest.raises(TypeError, match=r"layers must be names or lwta\.dissection\.Layer, got int"):
        as_layers([3], KNOWN)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="name must be the name of a module, got int"):
        Layer(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layers must name at least one layer, got none"):
        as_layers([], KNOWN)
    with pytest.raises(ValueError, match="layers must each be given once, got 'fc' more than once"):
        as_layers(["fc", "act", Layer("fc")], KNOWN)


def test_layers_of_a_model_that_are_none() -> None:
    model = ColourNetwork()
    assert choose_layers(model, ["head:softmax", "head", "act:identity"])[0] == Layer("head", "softmax")
    with pytest.raises(ValueError, match="layers must be names of modules of the model, 'haed' is none; did you mean"):
        choose_layers(model, "haed:softmax")
    with pytest.raises(ValueError, match="'a:b' is none"):
        choose_layers(model, "a:b")
    message = "transform of a competitive layer must be 'auto' or 'identity', got 'act:softmax'"
    with pytest.raises(ValueError, match=message):
        choose_layers(model, ["head", "act:softmax"])


def by_definition(outputs: Tensor, transform: str) -> Tensor:
    """In float64, without shifts."""
    outputs = outputs.double()
    if transform == "sigmoid":
        return 1 / (1 + (-outputs).exp())
    powers = outputs.exp()
    return powers / powers.sum(1, keepdim=True)


@pytest.mark.parametrize("transform", ["softmax", "sigmoid"])
def test_functions_are_those_of_the_definitions(transform: Any) -> None:
    outputs = 10 * torch.randn(ROWS + 3, 7)
    found = transformed(DenseActivations(outputs), Layer("fc"), transform).dense()
    assert found.dtype == torch.float32
    assert torch.equal(found, by_definition(outputs, transform).float())
    large = transformed(DenseActivations(torch.tensor([[1e4, -1e4, 1e4]])), Layer("fc"), transform).dense()
    assert large.tolist() == ([[0.5, 0, 0.5]] if transform == "softmax" else [[1, 0, 1]])


def test_winners_have_no_function() -> None:
    wins = activations_of(4, 5)
    assert transformed(wins, Layer("act"), "identity") is wins
    with pytest.raises(ValueError, match="competitive layer must be 'auto' or 'identity', got 'act:sigmoid'"):
        transformed(wins, Layer("act", "sigmoid"), "sigmoid")


def in_shards(outputs: Tensor, features: Tensor, size: int, layers: list[Layer]) -> MemoryRecording:
    return MemoryRecording(in_batches(DenseActivations(outputs), features, size)._batches, [], "auto", layers)


@pytest.mark.parametrize("transform", ["softmax", "sigmoid"])
def test_shards_change_no_bit(transform: Any) -> None:
    """Nor is an image another one in a fold of the images."""
    outputs, features = torch.randn(61, 37), embedded(61, 5)
    layers = [Layer("layer", transform), Layer("layer", "identity"), Layer("layer")]
    whole: dict[str, Tensor] = {}
    for size in (61, 16, 7, 1):
        recording = in_shards(outputs, features, size, layers)
        assert recording.layers == [f"layer:{transform}", "layer:identity", "layer"]
        for layer in recording.layers:
            found = torch.cat([shard.activations.dense() for shard in recording.shards(layer)])
            assert torch.equal(found, whole.setdefault(layer, found))
        folds = folds_of(recording.sorted_keys)
        for layer in recording.layers:
            parts = [part for shard in recording.shards(layer) for part in parts_of(shard, folds)]
            for fold in range(FOLDS):
                chosen = [i for i, key in enumerate(recording.keys) if fold_of(key) == fold]
                found = torch.cat([part.shard.activations.dense() for part in parts if part.fold == fold])
                assert torch.equal(found, whole[layer][chosen])
    assert torch.equal(whole["layer:identity"], outputs)
    assert torch.equal(whole["layer"], outputs)


def test_everything_sees_the_function() -> None:
    result = dissected(layers=["head", Layer("head", "softmax"), "head:identity", "head:sigmoid"])
    assert result.layers == ["head", "head:softmax", "head:identity", "head:sigmoid"]
    assert [result.recording.module(layer) for layer in result.layers] == ["head"] * 4
    assert list(result.recording._batches[0].activations) == ["head"]  # type: ignore[attr-defined]
    logits = torch.cat([shard.activations.dense() for shard in result.recording.shards("head:identity")])
    keys = result.recording.keys
    for layer, expected in (
        ("head", logits.double().softmax(1)),
        ("head:softmax", logits.double().softmax(1)),
        ("head:identity", logits.double()),
        ("head:sigmoid", logits.double().sigmoid()),
    ):
        order = expected[:, 1].argsort(descending=True)[:3].tolist()
        assert result.top_images(layer, 1, 3) == [
            (keys[i], pytest.approx(expected[i, 1].item(), abs=1e-6)) for i in order
        ]
    assert torch.equal(result.similarities("head"), result.similarities("head:softmax"))
    assert not torch.equal(result.similarities("head"), result.similarities("head:identity"))
    assert [row.layer for row in result.scores().layers] == result.layers
    assert {found.layer for found in result.search("a red thing", 12)} == set(result.layers)


def test_mistakes_come_to_light_before_the_images_are_read() -> None:
    def never(image: object) -> Tensor:
        raise AssertionError

    for layers, message in (
        ("head:softmx", "got 'softmx'; did you mean 'softmax'"),
        ("act:softmax", "got 'act:softmax'"),
        (["head", "head"], "layers must each be given once, got 'head' more than once"),
        ("haed:softmax", "'haed' is none; did you mean 'head'"),
    ):
        with pytest.raises(ValueError, match=message):
            dissected(layers=layers, transform=never)
