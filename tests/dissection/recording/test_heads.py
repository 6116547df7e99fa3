"""Classification heads are found in the pass, and their logits taken after a softmax."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lwta import LWTA
from lwta.dissection import Dissection
from tests.support.worlds import ColourNetwork, dissected


def conv_head() -> nn.Sequential:
    """The last convolution of a SqueezeNet has a map for each class; their means are the logits."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 3, 1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    for weight in model.parameters():
        nn.init.normal_(weight)  # so that some outputs are above 0 and some below
    return model


def returning(change: Any) -> nn.Module:
    """A network that returns something else than its logits."""

    class Returning(ColourNetwork):
        def forward(self, x: Tensor) -> Any:
            return change(super().forward(x))

    return Returning()


def outputs(result: Dissection, layer: str) -> Tensor:
    return torch.cat([shard.activations.dense() for shard in result.recording.shards(layer)])


def test_the_logits_of_a_linear_head_are_taken_after_a_softmax() -> None:
    result = dissected(layers=["mix", "act", "flat", "head", "head:identity"])
    assert result.recording.heads == {"head"}
    transforms = [result.recording.transform(layer) for layer in result.layers]
    assert transforms == ["identity", "identity", "identity", "softmax", "identity"]
    logits = outputs(result, "head:identity")
    assert torch.equal(outputs(result, "head"), logits.double().softmax(1).float())
    assert torch.equal(logits, outputs(dissected(layers="head:identity"), "head:identity"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("draws", [1, 3])
def test_the_maps_of_a_convolutional_head_are_its_logits(precision: Any, draws: int) -> None:
    result = dissected(conv_head(), list("012345"), precision=precision, draws=draws)
    assert result.recording.heads == {"3", "4", "5"}
    assert dissected(conv_head(), list("12345"), precision=precision, pool="max").recording.heads == {"4", "5"}


def test_sampled_winners_before_the_head() -> None:
    model = ColourNetwork("sample")
    for draws in (1, 4):
        assert dissected(model, draws=draws).recording.heads == {"head"}


def test_probabilities_are_left_alone() -> None:
    model = nn.Sequential(ColourNetwork(), nn.Softmax(1))
    result = dissected(model, ["0.head", "1"])
    assert not result.recording.heads
    assert [result.recording.transform(layer) for layer in result.layers] == ["identity", "identity"]
    assert outputs(result, "1").sum(1).tolist() == pytest.approx([1] * 30)


def test_winners_are_left_alone() -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), LWTA(3, eval_mode="argmax"))
    result = dissected(model, "2")
    assert not result.recording.heads
    assert result.recording.transform("2") == "identity"
    assert result.labels("2")[0].wins is not None


@pytest.mark.parametrize(
    ("change", "heads"),
    [
        (lambda logits: logits[:, :, None, None], {"head"}),
        (lambda logits: logits.double(), {"head"}),
        (lambda logits: logits + 1, set()),
        (lambda logits: logits[:, :2], set()),
        (lambda logits: logits.flip(1), set()),
        (lambda logits: logits[:, 0], set()),
        (lambda logits: logits.argmax(1, keepdim=True), set()),
        (lambda logits: (logits, logits), set()),
        (lambda logits: {"logits": logits}, set()),
        (lambda logits: None, set()),
    ],
)
def test_what_the_network_returns(change: Any, heads: set[str]) -> None:
    assert dissected(returning(change), "head").recording.heads == heads


def test_one_output_is_no_head() -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1))
    assert not dissected(model, "2").recording.heads


def test_tables_say_so(tmp_path: Any) -> None:
    result = dissected(layers=["act", "head", "head:identity", "head:sigmoid"])
    headlines = [result.table(layer).splitlines()[0] for layer in result.layers]
    assert headlines == [
        "act: 4 neurons, 30 images, 4 concepts, a word fits 2",
        "head: 3 neurons after softmax, 30 images, 4 concepts, a word fits 3",
        "head:identity: 3 neurons, 30 images, 4 concepts, a word fits 3",
        "head:sigmoid: 3 neurons after sigmoid, 30 images, 4 concepts, a word fits 3",
    ]
    result.to_csv(tmp_path / "labels.csv")
    rows = (tmp_path / "labels.csv").read_text().splitlines()[1:]
    assert list(dict.fromkeys(row.split(",")[0] for row in rows)) == result.layers
