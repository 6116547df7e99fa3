"""Neurons for a text, and what stands out in the labels of all layers."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lwta.dissection import ClipEncoder, Concepts, SoftWPMI
from tests.support.stores import World
from tests.support.worlds import dissected, images


@pytest.mark.parametrize("text", ["a green thing", " A_Green-thing "])
def test_a_concept_is_found_where_it_is_a_label(text: str) -> None:
    result = dissected()
    first, second, *_ = result.search(text)
    assert {(first.layer, first.neuron), (second.layer, second.neuron)} == {("act", 1), ("head", 1)}
    assert first.concept == "a green thing"
    assert first.score == result.similarities(first.layer)[first.neuron, 1]


@pytest.mark.parametrize("similarity", ["soft_wpmi", "cos", "jsd"])
def test_a_text_that_is_no_concept_is_one_concept_more(similarity: str) -> None:
    names = ["a red thing", "a blue thing", "a grey thing"]
    result = dissected(concepts=names, similarity=similarity)
    found = result.search("a green thing", n=100)
    more = result.relabel([*names, "a green thing"], similarity)
    expected = [
        (float(more.similarities(layer)[neuron, 3]), layer, neuron)
        for layer, neurons in (("act", 4), ("head", 3))
        for neuron in range(neurons)
    ]
    expected = sorted((one for one in expected if not math.isnan(one[0])), key=lambda one: -one[0])
    assert [(one.score, one.layer, one.neuron) for one in found] == expected
    assert found[0].concept != "a green thing"  # the labels are those of the dissection
    assert {(one.layer, one.neuron) for one in found[:2]} == {("act", 1), ("head", 1)}


def test_some_layers_and_some_neurons() -> None:
    result = dissected()
    assert [one.layer for one in result.search("a red thing", n=2, layers=["head"])] == ["head", "head"]
    assert len(result.search("a red thing", n=100)) == 7


def test_the_dead_are_not_found() -> None:
    reds = [pair for pair in images(30) if pair[0].startswith("red")]
    found = dissected(probe=reds, layers="act", similarity="soft_wpmi").search("a red thing")
    assert [one.neuron for one in found] == [0, 3]
    assert not any(math.isnan(one.score) for one in found)


def test_neurons_that_no_word_fits_are_found_with_the_closest() -> None:
    result = dissected()
    labels = {(layer, label.neuron): label for layer in result.layers for label in result.labels(layer)}
    found = result.search("a blue thing", n=100)
    assert {one.concept is None for one in found} == {True, False}
    for one in found:
        label = labels[one.layer, one.neuron]
        assert (one.concept, one.closest, one.reason, one.rank) == (
            *(label.concept, label.closest, label.reason),
            label.rank,
        )
        assert one.label_text() == label.text(3)
        assert one.r == label.r or (math.isnan(one.r) and math.isnan(label.r))
        assert one.to_dict()["closest"] == label.closest
        assert (one.concept is None) == one.label_text().startswith("no word fits")


def test_constant_neurons_are_not_found_by_correlation() -> None:
    reds = [pair for pair in images(30) if pair[0].startswith("red")]
    assert [one.neuron for one in dissected(probe=reds, layers="act").search("a red thing")] == [0]


def test_ones_own_similarity() -> None:
    similarity = partial(SoftWPMI, top_k=3)
    result = dissected(concepts=["a red thing"], similarity=similarity)
    expected = result.relabel(["a red thing", "a blue thing"], similarity).similarities("act")[:, 1]
    found = {one.neuron: one.score for one in result.search("a blue thing", layers=["act"], similarity=similarity)}
    assert [found[neuron] for neuron in range(4)] == expected.tolist()


def test_any_text_with_the_embedded_clip() -> None:
    reds = [(key, image.resize((32, 32))) for key, image in images(12)]
    result = dissected(clip=ClipEncoder("tiny"), concepts=Concepts(["circle", "square"]), probe=reds, layers="act")
    found = result.search("red")
    assert {one.closest for one in found} <= {"circle", "square"}
    assert {one.label_text().partition(":")[0] for one in found} == {"no word fits (closest"}  # four images are too few


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"text": "a blu thing"}, ValueError, "no text embedding.*did you mean 'a blue thing'"),
        ({"text": " "}, ValueError, "it is empty"),
        ({"text": "a blue thing", "n": 0}, ValueError, "n must be at least 1, got 0"),
        ({"text": "a blue thing", "layers": ["ac"]}, ValueError, "did you mean 'act'"),
        ({"text": "a blue thing", "layers": "act"}, TypeError, "sequence of names"),
        ({"text": "a blue thing", "layers": []}, ValueError, "at least one layer"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dissected().search(**arguments)


def test_a_store_finds_what_memory_does(tmp_path: Path) -> None:
    names = ["a red thing", "a blue thing"]
    memory, stored = World().dissect(concepts=names), World().dissect(tmp_path, concepts=names)
    opened = World().open(tmp_path, names)
    assert memory.search("a green thing") == stored.search("a green thing") == opened.search("a green thing")
    assert memory.audit() == stored.audit() == opened.audit()
