"""Explanations of single images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from lwta import LWTA, create_model
from lwta.dissection import Embeddings, dissect, explain
from lwta.support.seeds import derive, seeded
from tests.support.worlds import ColourNetwork, dissected, to_tensor

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


def test_ordinary_layers_list_the_active_neurons() -> None:
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


def test_layers_of_one_module_have_its_evidence() -> None:
    """What is explained is the output of the module, whatever function of it was dissected."""
    result = dissected(layers=["head:identity", "act", "head", "head:sigmoid"])
    explanation = result.explain(RED)
    assert list(explanation.evidence) == ["head:identity", "act", "head", "head:sigmoid"]
    before = dissected(layers="head:identity").explain(RED).evidence["head:identity"]
    for key in ("head:identity", "head", "head:sigmoid"):
        found = explanation.evidence[key]
        assert {one.layer for one in found} == {key}
        assert [one.concept for one in found] == [result.labels(key)[one.neuron].concept for one in found]
        assert [one.activation for one in found] == [one.activation for one in before]
        assert [one.contribution for one in found] == [one.contribution for one in before]
    assert list(result.explain(RED, layers=["head"]).evidence) == ["head"]


def test_text() -> None:
    text = str(dissected().explain(RED, class_names=["red", "green", "blue"])).splitlines()
    assert text[0].startswith("predicted: red (")
    assert text[2] == "act: 2 neurons active"
    assert text[4].split() == ["+1.569", "+0.784", "0", "a", "red", "thing"]
    head = text.index("head: 3 neurons active")
    assert [line.split()[2] for line in text[head + 2 :] if line] == ["0"]  # the others contributed nothing


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


def test_the_difference_of_two_logits_is_shared_out() -> None:
    model = ColourNetwork()
    names = ["red", "green", "blue"]
    explanation = dissected(model).explain(RED, class_names=names, target="green", versus="blue")
    assert (explanation.target, explanation.versus, explanation.question) == (1, 2, "green rather than blue")
    assert (explanation.predicted, explanation.class_name) == (0, "red")
    with torch.inference_mode():
        logits = model(to_tensor(RED)[None])[0]
    assert explanation.explained_logit == pytest.approx(float(logits[1] - logits[2]))
    bias = (model.head.bias[1] - model.head.bias[2]).item()
    total = sum(one.contribution for one in explanation.evidence["act"])
    assert total == pytest.approx(explanation.explained_logit - bias, abs=1e-6)


def test_probabilities_are_averaged_over_draws() -> None:
    torch.manual_seed(1)
    model = Maps()
    result = dissected(model, ["act"])
    one, many = (explain(model, RED, result, draws=draws, seed=5) for draws in (1, 6))
    assert one.evidence["act"] == many.evidence["act"]  # those of the first draw
    chances = []
    for draw in range(6):
        with seeded(derive(5, 0, draw)), torch.no_grad():
            chances.append(model.eval()(to_tensor(RED)[None])[0].softmax(0))
    expected = torch.stack(chances)
    assert many.predicted == int(expected.mean(0).argmax())
    for row in many.probabilities:
        assert row.mean == pytest.approx(float(expected[:, row.index].mean()), abs=1e-6)
        assert row.std == pytest.approx(float(expected[:, row.index].std(correction=0)), abs=1e-6)
    assert many.probabilities[0].std > 0
    assert all(row.std == 0 for row in one.probabilities)
    assert "over 6 draws" in str(many)


def test_maps_say_where_a_neuron_is_active() -> None:
    torch.manual_seed(0)
    model = Maps().eval()
    explanation = explain(model, RED, dissected(model, ["act"]), seed=3)
    with seeded(derive(3, 0)), torch.no_grad():
        output = model.act(model.conv(to_tensor(RED)[None]))[0]
    for one in explanation.evidence["act"]:
        assert one.where is not None
        assert torch.equal(one.where, output[one.neuron])
        assert one.share == pytest.approx(float((one.where != 0).float().mean()))
        picture = explanation.heat_map(one, 64)
        assert (picture.size, picture.mode) == ((64, 64), "RGB")


def test_as_json(tmp_path: Path) -> None:
    model = Maps()
    explanation = explain(model, RED, dissected(model, ["act"]), draws=2)
    explanation.to_json(tmp_path / "why.json", maps=True)
    read = json.loads((tmp_path / "why.json").read_text())
    assert read == explanation.to_dict(maps=True)
    assert read["evidence"]["act"][0]["where"] == explanation.evidence["act"][0].where.tolist()  # type: ignore[union-attr]
    assert "where" not in explanation.to_dict(rows=1)["evidence"]["act"][0]
    assert len(explanation.to_dict(rows=1)["evidence"]["act"]) == 1


def test_classes_that_are_none() -> None:
    result = dissected()
    names = ["red", "green", "blue"]
    with pytest.raises(ValueError, match=r"target must be a class, 'bleu' is none; did you mean"):
        result.explain(RED, class_names=names, target="bleu")
    with pytest.raises(ValueError, match="target must be a class, 'red' is none; class_names were not given"):
        result.explain(RED, target="red")
    with pytest.raises(ValueError, match="versus must be 0…2, got 3"):
        result.explain(RED, versus=3)
    with pytest.raises(ValueError, match="versus must be another class than the one explained"):
        result.explain(RED, target=1, versus=1)
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        result.explain(RED, draws=0)


def test_names_of_several_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'crane' names 2: give one of the indices \[0, 2\]"):
        dissected().explain(RED, class_names=["crane", "ship", "crane"], target="crane")


def test_classes_are_called_as_the_network_calls_them() -> None:
    names = ["ship", "truck"]
    model = create_model("resnet20", 4, class_names=names, eval_mode="argmax").eval()
    probe = [(colour, Image.new("RGB", (32, 32), colour)) for colour in ("red", "blue")]
    embeddings = Embeddings(["red", "blue"], torch.eye(2), ["a red thing", "a blue thing"], torch.eye(2))
    result = dissect(model, "fc", probe, clip=embeddings, concepts=embeddings.concepts, progress=False)
    assert {one.name for one in result.explain(RED).probabilities} == set(names)
    assert result.explain(RED, target="truck").target == 1
    assert {one.name for one in result.explain(RED, class_names=["a", "b"]).probabilities} == {"a", "b"}
