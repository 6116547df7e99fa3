"""Scores of layers and output neurons, against the definitions."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fakes import images
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from stores import World
from test_dissect import dissected
from test_scoring import recorded
from test_scoring_part import activations_of, embedded
from torch import nn

from lwta import LWTA
from lwta.dissection import Embeddings, SoftWPMI, dissect, open_store
from lwta.dissection.labels.naming import label_indices
from lwta.dissection.recording.activations import DenseActivations, pool_winners
from lwta.dissection.scoring import Scores, compare
from lwta.dissection.scoring.identification import identify
from lwta.dissection.scoring.layer_figures import active_per_image, redundancy, winner_entropy
from lwta.winners import Winners

NAMES = ["A_Red thing", "blue", "a  green-thing"]


@pytest.fixture(autouse=True)
def _no_sentence_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is downloaded where the extra is installed."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)


@pytest.mark.parametrize("competitors", [2, 3, 4])
def test_entropy_of_winners(competitors: int) -> None:
    indices = torch.randint(competitors, (11, 6, 2), dtype=torch.uint8)
    wins = pool_winners(Winners(torch.randn(11, 6, 2), indices, competitors), "mean")
    expected = []
    for block in range(2):
        p = [count / 66 for count in Counter(indices[..., block].flatten().tolist()).values()]
        expected.append(-sum(q * math.log(q) for q in p) / math.log(competitors))
    recording = recorded(wins, embedded(11, 4))
    assert winner_entropy(recording, "layer") == pytest.approx(sum(expected) / 2)


def test_entropy_of_one_that_always_wins_is_zero() -> None:
    wins = pool_winners(Winners(torch.randn(5, 3), torch.zeros(5, 3, dtype=torch.uint8), 2), "mean")
    assert winner_entropy(recorded(wins, embedded(5, 4)), "layer") == 0


@pytest.mark.parametrize("competitors", [None, 1])
def test_no_entropy_where_nothing_is_open(competitors: int | None) -> None:
    assert math.isnan(winner_entropy(recorded(activations_of(competitors, 5), embedded(5, 4)), "layer"))


@pytest.mark.parametrize("competitors", [None, 1, 2, 4])
def test_active_per_image(competitors: int | None) -> None:
    activations = activations_of(competitors, 9)
    if isinstance(activations, DenseActivations):
        active = activations.values != 0
    else:
        active = torch.zeros(9, 8)
        active[activations.images(), activations.units.long()] = 1
    share = active_per_image(recorded(activations, embedded(9, 4)), "layer")
    assert share == pytest.approx(float(active.double().mean()))


@settings(deadline=None)
@given(st.lists(st.integers(-1, 4), max_size=12))
def test_redundancy_is_of_those_that_are_not_alone(labels: list[int]) -> None:
    named = [label for label in labels if label >= 0]
    found = redundancy(torch.tensor(labels, dtype=torch.int64))
    expected = sum(named.count(label) > 1 for label in named) / len(named) if named else math.nan
    assert found == pytest.approx(expected, nan_ok=True)


def test_label_indices_are_the_labels() -> None:
    reds = [pair for pair in images(30) if pair[0].startswith("red")]
    result = dissected(probe=reds)
    for layer in result.layers:
        names = [result.concepts.names[i] if i >= 0 else None for i in label_indices(result.similarities(layer))]
        assert names == [label.concept for label in result.labels(layer)]


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


def test_identification_of_output_neurons() -> None:
    found = identify(dissected(), "head", NAMES)
    # the labels are red, green, blue
    assert (found.neurons, found.nameable, found.top1, found.top5) == (3, 2, pytest.approx(1 / 3), pytest.approx(2 / 3))
    # of "blue" there is no embedding; the cosines are 1 and, of blue and green, 0
    assert (found.pairs, found.clip_cosine) == (2, pytest.approx(0.5))
    assert math.isnan(found.mpnet_cosine)


def test_sentence_transformers_are_used_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    class Model:
        def __init__(self, name: str) -> None:
            opened.append(name)

        def encode(self, texts: list[str]) -> np.ndarray:
            return np.array([[3.0, 4.0] if "red" in text.lower() else [2.0, 0.0] for text in texts], dtype=np.float32)

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Model))
    names = ["a red thing", "a red thing", "sky"]
    assert identify(dissected(), "head", names).mpnet_cosine == pytest.approx((1 + 0.6 + 1) / 3)
    assert opened == ["sentence-transformers/all-mpnet-base-v2"]


def test_missing_weights_of_sentence_transformers_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> None:
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=fails))
    with pytest.warns(UserWarning, match="no network"):
        assert math.isnan(identify(dissected(), "head", NAMES).mpnet_cosine)


def test_the_output_layer_is_found() -> None:
    result = dissected()
    found = result.scores(NAMES).identification
    assert found is not None
    assert found.layer == "head"
    assert result.scores().identification is None
    assert result.scores(["a", "b"]).identification is None  # no layer of two


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
