"""Explanations of single images."""

from __future__ import annotations

import pytest
import torch
from fakes import ColourNetwork, to_tensor
from PIL import Image
from test_dissect import dissected
from torch import nn

from lwta import LWTA
from lwta.dissection import explain

RED = Image.new("RGB", (4, 4), (200, 0, 0))


def test_contributions_add_up_to_the_logit_less_the_bias() -> None:
    model = ColourNetwork()
    explanation = dissected(model).explain(RED, class_names=["red", "green", "blue"])
    assert (explanation.predicted, explanation.class_name) == (0, "red")
    total = sum(one.contribution for one in explanation.evidence["act"])
    assert total == pytest.approx(explanation.logit - model.head.bias[0].item(), abs=1e-6)
    with torch.inference_mode():
        logits = model(to_tensor(RED)[None])[0]
    assert explanation.logit == pytest.approx(logits[0].item())
    assert explanation.probability == pytest.approx(logits.softmax(0)[0].item())


def test_the_winner_is_named_though_it_is_negative() -> None:
    evidence = dissected().explain(RED).evidence["act"]
    assert [(one.neuron, one.activation, one.contribution) for one in evidence] == [
        (0, pytest.approx(200 / 255), pytest.approx(400 / 255)),
        (3, -1, -1),  # "nothing" beat blue, which would have been −2
    ]
    assert evidence[0].concept == "a red thing"


def test_ordinary_layers_list_the_neurons_that_fired() -> None:
    evidence = dissected().explain(RED).evidence["head"]
    assert evidence[0].neuron == 0
    assert evidence[0].contribution == pytest.approx(evidence[0].activation)
    assert [one.contribution for one in evidence[1:]] == [0, 0]


class Maps(nn.Module):
    """Competition at every position, behind it something that overwrites its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.over = nn.Conv2d(3, 8, 3), LWTA(2), nn.Dropout2d(0.0, inplace=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.over(self.act(self.conv(x))).mul_(1).mean((2, 3)))


def test_positions_are_summed_up() -> None:
    model = Maps()
    result = dissected(model, ["head", "act"])
    explanation = result.explain(RED, seed=2)
    evidence = explanation.evidence["act"]
    total = sum(one.contribution for one in evidence)
    assert total == pytest.approx(explanation.logit - model.head.bias[explanation.predicted].item(), abs=1e-5)
    weights = model.head.weight[explanation.predicted].tolist()
    assert [one.contribution for one in evidence] == pytest.approx(
        [one.activation * weights[one.neuron] for one in evidence], abs=1e-6
    )
    sizes = [abs(one.contribution) for one in evidence]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(one.share for one in evidence) == pytest.approx(4)  # four blocks
    assert result.explain(RED, seed=2).evidence == explanation.evidence
    assert list(explanation.evidence) == ["head", "act"]


def test_a_frozen_network_under_inference_mode_in_training() -> None:
    model = Maps().requires_grad_(False).train()
    result = dissected(model, "act")
    with torch.inference_mode():
        explanation = result.explain(RED)
    assert any(one.contribution for one in explanation.evidence["act"])
    assert model.training
    assert model.head.weight.grad is None


def test_text() -> None:
    text = str(dissected().explain(RED, class_names=["red", "green", "blue"])).splitlines()
    assert text[0].startswith("predicted: red (")
    assert text[2] == "act: 2 neurons fired"
    assert text[4].split() == ["+1.569", "+0.784", "0", "a", "red", "thing"]


def test_mistakes() -> None:
    result = dissected()
    with pytest.raises(TypeError, match="image must be a PIL image, got Tensor"):
        result.explain(torch.zeros(3, 4, 4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="class_names must name the 3 classes of the model, got 2"):
        result.explain(RED, class_names=["a", "b"])
    with pytest.raises(ValueError, match="'mix' was not"):
        explain(result.model, RED, result, layers=["mix"])
    maps = ColourNetwork()
    maps.flat, maps.head = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"model must give logits of shape \(1, C\) for one image, got \(1, 4, 1, 1\)"):
        explain(maps, RED, result, layers=["act"])
