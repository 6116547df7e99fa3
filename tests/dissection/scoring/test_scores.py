"""Scores of layers and output neurons, against the definitions."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from lwta import LWTA
from lwta.dissection import Dissection, Embeddings, SoftWPMI, dissect
from lwta.dissection.moments.folds import fold_of
from lwta.dissection.scoring import LayerScores, Scores, compare, trust_figures
from lwta.dissection.scoring.judges import judge_probabilities
from lwta.dissection.scoring.scores import judge_left_out
from lwta.dissection.scoring.trust_figures import rotated, shuffled
from tests.support.stores import World
from tests.support.worlds import dissected, images

NAMES = ["A_Red thing", "blue", "a  green-thing"]


def test_scores_of_a_layer_with_dead_neurons() -> None:
    reds = [pair for pair in images(30) if pair[0].startswith("red")]
    act, head = dissected(probe=reds, similarity="soft_wpmi", abstain=False).scores().layers
    assert (act.neurons, act.competitors, act.dead, act.labelled) == (4, 2, 2, 0.5)
    assert (act.distinct_concepts, act.redundancy, act.winner_entropy) == (1, 1.0, 0.0)
    assert (act.active_per_image, act.similarity) == (0.5, "soft_wpmi")
    assert act.monosemanticity == pytest.approx(0)  # all images look alike to CLIP
    assert (head.competitors, head.dead) == (None, 0)
    assert math.isnan(head.winner_entropy)


class Brightness(nn.Module):
    """Eight units, each for images of one brightness."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.places, self.act = nn.Parameter(torch.linspace(0.2, 1, 8)), act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, 1, 1) to (N, 8)."""
        return self.act(0.15 - (x.flatten(1) - self.places).abs())


def brightness(image: Image.Image) -> torch.Tensor:
    return torch.tensor(max(image.getpixel((0, 0))) / 255).view(1, 1, 1)


def bright(act: nn.Module, similarity: Any) -> Dissection:
    """The dissection of `Brightness` on 200 images, whose brightness CLIP sees too."""
    probe, places = images(200), torch.linspace(0.2, 1, 8)
    light = torch.stack([brightness(image).flatten() for _, image in probe])
    seen = torch.softmax(-60 * (light - places).square(), dim=1)
    clip = Embeddings([key for key, _ in probe], seen, [f"light {i}" for i in range(8)], torch.eye(8))
    arguments = {"clip": clip, "concepts": clip.concepts, "transform": brightness, "similarity": similarity}
    return dissect(Brightness(act), "act", probe, progress=False, **arguments)


SOME = partial(SoftWPMI, top_k=10)


@pytest.mark.parametrize("similarity", [SOME, "correlation", "linear"])
@pytest.mark.parametrize("act", [LWTA(4, eval_mode="argmax"), LWTA(1), nn.ReLU()])
def test_true_labels_predict_images_left_out(act: nn.Module, similarity: Any) -> None:
    result = bright(act, similarity)
    (row,) = result.scores(similarity=similarity).layers
    labels = result.labels("act")
    if not (isinstance(act, LWTA) and act.competitors == 1):  # outputs that are negative nearly everywhere
        assert [label.concept for label in labels] == [f"light {i}" for i in range(8)]
        assert row.labelled == row.told_apart == row.reciprocal_rank == 1
    assert row.r == pytest.approx(sum(label.r for label in labels) / 8)
    assert row.told_apart == sum(label.told_apart for label in labels) / 8
    assert row.reciprocal_rank == pytest.approx(sum(1 / (label.rank or math.inf) for label in labels) / 8)
    assert all(label.r_low < label.r < label.r_high for label in labels)
    assert 0.6 < row.r < row.ceiling <= 1
    assert row.ceiling_share == pytest.approx(row.r / row.ceiling)
    assert row.auprc > 0.35  # by chance 0.05
    assert row.stable == 1
    assert abs(row.monosemanticity_shuffled) < 0.02 < row.monosemanticity


@pytest.mark.parametrize("similarity", [SOME, "correlation", "linear"])
def test_controls_have_nothing_to_say(similarity: Any) -> None:
    """Except that a rotation of so few neurons, all of brightness, is still about brightness."""
    result = bright(LWTA(4, eval_mode="argmax"), similarity)
    other = bright(LWTA(4, eval_mode="argmax"), "cos")
    (row,) = result.scores(similarity=similarity, others={"other": other, "none": dissected(layers="head")}).layers
    by_name = {figures.name: figures for figures in row.controls}
    assert list(by_name) == ["shuffled activations", "other neurons' words", "random rotation", "other"]
    shuffles, rotation = by_name["shuffled activations"], by_name["random rotation"]
    assert (shuffles.labelled, shuffles.images) == (0, 200)
    assert abs(shuffles.r) < 0.1
    assert shuffles.told_apart < 0.5
    assert by_name["other neurons' words"].r < 0
    assert rotation.r < row.r
    assert rotation.told_apart < 1
    of_other = by_name["other"]
    assert of_other.r == pytest.approx(sum(label.r for label in other.labels("act")) / 8)


def test_controls_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is labelled for them, and all else is as it was."""
    result = dissected()
    whole = result.scores(NAMES)
    monkeypatch.setattr(trust_figures, "choose", lambda *_, **__: pytest.fail("a control is labelled"))
    found = result.scores(NAMES, controls=False)
    assert [row.controls for row in found.layers] == [(), ()]
    assert repr(found.layers) == repr([row._replace(controls=()) for row in whole.layers])
    assert repr(found.identification) == repr(whole.identification)
    assert "Controls:" in whole.table()
    assert "Controls:" not in found.table()
    with pytest.raises(ValueError, match=r"others must not be given with controls=False, .*; got 'other'"):
        result.scores(others={"other": result}, controls=False)


@pytest.mark.parametrize("similarity", [SOME, "linear"])
def test_judges_see_words_that_were_chosen_without_the_image(similarity: Any) -> None:
    result = bright(LWTA(4, eval_mode="argmax"), similarity)
    recording, texts = result.recording, result.concepts.encode(result.clip)
    activations, probabilities = torch.zeros(200, 8), torch.zeros(200, 8)
    for shard in recording.shards("act"):
        activations[shard.ranks] = shard.activations.dense()
        p = (100 * shard.features @ texts.T).softmax(1)
        for i, rank in enumerate(shard.ranks.tolist()):
            fold = fold_of(recording.sorted_keys[rank])
            (words,) = (words for folds, words in result.chosen("act").left_out if fold in folds)
            for neuron in range(8):
                pairs = zip(words.concepts[neuron].tolist(), words.weights[neuron].tolist(), strict=True)
                weighted = [(float(p[i, concept]) * weight, weight) for concept, weight in pairs if concept >= 0]
                total = sum(weight for _, weight in weighted)
                probabilities[rank, neuron] = sum(one for one, _ in weighted) / total
    expected = judge_probabilities(activations, probabilities)
    for found, wanted in zip(judge_left_out(result, "act"), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_shuffled_activations_are_those_of_each_neuron() -> None:
    values = torch.randn(50, 6)
    found = shuffled(values)
    assert torch.equal(found.sort(0).values, values.sort(0).values)
    assert not torch.equal(found, values)
    assert len({tuple(column.argsort().tolist()) for column in found.T}) == 6
    assert torch.equal(found, shuffled(values))


def test_a_rotation_keeps_what_all_neurons_say_together() -> None:
    values = torch.randn(300, 5) @ torch.randn(5, 5) * torch.tensor([1.0, 1e3, 1e-3, 1, 1]) + 7
    values[:, 3] = 2
    found, values = rotated(values).double(), values.double()
    varies = torch.tensor([0, 1, 2, 4])
    standard = (values - values.mean(0)) / values.std(0, correction=0)
    lengths = standard[:, varies].square().sum(1)
    torch.testing.assert_close(found[:, varies].square().sum(1), lengths, rtol=1e-5, atol=1e-5)
    basis = torch.linalg.lstsq(standard[:, varies], found[:, varies]).solution
    torch.testing.assert_close(basis @ basis.T, torch.eye(4).double(), rtol=0, atol=1e-4)
    assert (found[:, 3] == 0).all()


@pytest.mark.parametrize(("told_apart", "said"), [(0.1, True), (0.2, False), (0.9, False), (math.nan, False)])
def test_labels_that_are_not_specific_are_said_to_be_so(told_apart: float, said: bool) -> None:
    layer = LayerScores("act", 100, r=0.5, told_apart=told_apart)
    table = Scores([layer], None, 1000, "linear").table()
    sentence = "act: the labels are not specific: only 10% of its neurons are told apart"
    assert (sentence in table) == said


def test_a_store_scores_as_memory_does(tmp_path: Path) -> None:
    names = ["a red thing", "a green thing", "grey"]
    memory, stored, opened = World().dissect(), World().dissect(tmp_path), World().open(tmp_path)
    first, *others = (one.scores(names, "head").to_dict() for one in (memory, stored, opened))
    for other in others:
        assert json.loads(json.dumps(other), parse_float=lambda x: round(float(x), 9)) == json.loads(
            json.dumps(first), parse_float=lambda x: round(float(x), 9)
        )


def test_one_image_has_scores_but_no_check() -> None:
    scores = dissected(probe=images(1)).scores()
    assert scores.images == 1
    for row in scores.layers:
        assert (row.labelled, row.distinct_concepts) == (0, 0)
        figures = (row.r, row.told_apart, row.reciprocal_rank, row.ceiling, row.auprc, row.stable, row.monosemanticity)
        assert all(math.isnan(figure) for figure in figures)
        assert [control.labelled for control in row.controls if control.labelled == control.labelled] == [0, 0]
    assert scores.table()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": ["a"], "output_layer": "head"}, "names of the 3 neurons of layer 'head', got 1"),
        ({"class_names": NAMES, "output_layer": "haed"}, "did you mean 'head'"),
        ({"output_layer": "head"}, "class_names must be given"),
        ({"similarity": "soft"}, "similarity must be one of"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dissected().scores(**arguments)


def test_networks_side_by_side(tmp_path: Path) -> None:
    scores = dissected().scores(NAMES)
    assert scores.identification is not None
    table = compare({"LWTA": scores, "ReLU": scores})
    lines = table.splitlines()
    assert [line.split()[:2] for line in lines[:5]] == [
        ["network", "layer"],
        ["LWTA", "act"],
        ["ReLU", "act"],
        ["LWTA", "head"],
        ["ReLU", "head"],
    ]
    controls = table.split("its random rotation:\n")[1].splitlines()
    assert [line.split()[:4] for line in controls[1:6]] == [
        ["LWTA", "act", "the", "layer"],
        ["LWTA", "act", "shuffled", "activations"],
        ["LWTA", "act", "other", "neurons'"],
        ["LWTA", "act", "random", "rotation"],
        ["ReLU", "act", "the", "layer"],
    ]
    assert str(scores) == scores.table()
    scores.to_json(tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text()) == scores.to_dict()
    assert isinstance(scores, Scores)
    with pytest.raises(ValueError, match="at least one"):
        compare({})
