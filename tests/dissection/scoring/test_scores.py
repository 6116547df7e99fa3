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
from lwta.dissection import Embeddings, SoftWPMI, dissect, open_store
from lwta.dissection.scoring import Scores, compare
from tests.support.stores import World
from tests.support.worlds import dissected, images

NAMES = ["A_Red thing", "blue", "a  green-thing"]


def test_scores_of_a_layer_with_dead_neurons() -> None:
    reds = [pair for pair in images(30) if pair[0].startswith("red")]
    act, head = dissected(probe=reds).scores().layers
    assert (act.neurons, act.competitors, act.dead, act.labelled) == (4, 2, 2, 0.5)
    assert (act.distinct_concepts, act.redundancy, act.winner_entropy) == (1, 1.0, 0.0)
    assert (act.active_per_image, act.monosemanticity) == (0.5, pytest.approx(1))
    assert act.auc == pytest.approx(0.5)  # all images look alike to CLIP
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


@pytest.mark.parametrize("act", [LWTA(4, eval_mode="argmax"), LWTA(1), nn.ReLU()])
def test_true_labels_predict_what_was_held_out(act: nn.Module) -> None:
    probe, places = images(200), torch.linspace(0.2, 1, 8)
    light = torch.stack([brightness(image).flatten() for _, image in probe])
    seen = torch.softmax(-60 * (light - places).square(), dim=1)  # CLIP sees the brightness too
    clip = Embeddings([key for key, _ in probe], seen, [f"light {i}" for i in range(8)], torch.eye(8))
    similarity = partial(SoftWPMI, top_k=10)
    arguments = {"clip": clip, "concepts": clip.concepts, "transform": brightness, "similarity": similarity}
    result = dissect(Brightness(act), "act", probe, progress=False, **arguments)
    (row,) = result.scores(similarity=similarity).layers
    assert row.auc > 0.9
    assert row.auc_low <= row.auc <= row.auc_high


def test_a_store_scores_as_memory_does(tmp_path: Path) -> None:
    names = ["a red thing", "a green thing", "grey"]
    memory, stored = World().dissect(), World().dissect(tmp_path)
    opened = open_store(tmp_path, concepts=memory.concepts, clip=memory.clip)
    first, *others = (one.scores(names, "head").to_dict() for one in (memory, stored, opened))
    for other in others:
        assert json.loads(json.dumps(other), parse_float=lambda x: round(float(x), 9)) == json.loads(
            json.dumps(first), parse_float=lambda x: round(float(x), 9)
        )


def test_one_image_has_scores_but_no_check() -> None:
    scores = dissected(probe=images(1)).scores()
    assert (scores.images, scores.held_out) == (1, 0)
    assert math.isnan(scores.layers[0].auc)
    assert "AUC on" not in scores.table()


def test_nothing_held_out_checks_nothing() -> None:
    scores = dissected().scores(held_out=0)
    assert scores.held_out == 0
    assert all(math.isnan(row.auc) for row in scores.layers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"held_out": 1}, "held_out must be a share.*got 1"),
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
    lines = compare({"LWTA": scores, "ReLU": scores}).splitlines()
    assert [line.split()[:2] for line in lines[:5]] == [
        ["network", "layer"],
        ["LWTA", "act"],
        ["ReLU", "act"],
        ["LWTA", "head"],
        ["ReLU", "head"],
    ]
    assert str(scores) == scores.table()
    scores.to_json(tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text()) == scores.to_dict()
    assert isinstance(scores, Scores)
    with pytest.raises(ValueError, match="at least one"):
        compare({})
