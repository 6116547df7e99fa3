"""What stands out in the labels of all layers."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lwta.dissection import Dissection
from lwta.dissection.labels.audit import Audit, DividedBlock, SharedConcept
from lwta.dissection.similarity.base import Words
from tests.support.worlds import COLOURS, dissected, embeddings, images

world = cache(dissected)


def labelled(act: list[int], head: list[int]) -> Dissection:
    """The small world with labels of one's choice, −1 for none."""
    result, labels = world(), {}
    for layer, concepts in {"act": act, "head": head}.items():
        words = Words(torch.tensor(concepts)[:, None], torch.ones(len(concepts), 1))
        labels[layer] = result.chosen(layer)._replace(words=words)
    return replace(result, _chosen=labels, abstention=None)


def test_audit() -> None:
    red, green, blue, grey = (f"a {colour} thing" for colour in (*COLOURS, "grey"))
    found = labelled([0, 0, 2, 1], [1, 1, 0]).audit()
    assert found.concepts == 4
    assert found.shared == [
        SharedConcept(green, {"act": [3], "head": [0, 1]}),
        SharedConcept(red, {"act": [0, 1], "head": [2]}),
    ]
    assert found.missing == [grey]
    assert found.divided == [DividedBlock("act", 0, red, [0, 1], [pytest.approx(2 / 3), pytest.approx(1 / 3)])]
    text = found.table()
    assert "0 (67%), 1 (33%)" in text
    assert f"1 of 4 concepts are carried by no neuron: {grey}" in text
    assert blue not in text
    assert json.loads(json.dumps(found.to_dict()))["missing"] == [grey]


def test_audit_of_nothing() -> None:
    found = labelled([-1] * 4, [-1] * 3).audit()
    assert (found.shared, len(found.missing), found.divided) == ([], 4, [])
    assert found.table().startswith("0 of 7 neurons have a label; of 7 no word fits.\n")


def test_neurons_without_a_label_carry_no_concept_and_are_counted() -> None:
    reds = [pair for pair in images(60) if pair[0].startswith("red")]
    result = dissected(probe=reds, clip=embeddings([key for key, _ in images(60)]))
    reasons = [reason for layer in result.layers for reason in result.reasons(layer)]
    found = result.audit()
    assert (found.neurons, found.dead) == (7, 2)  # green and blue never win
    assert found.no_word_fits == 7 - 2 - reasons.count(None)
    carried = {label.concept for layer in result.layers for label in result.labels(layer)} - {None}
    assert set(found.missing) == {*result.concepts.names} - carried
    assert "2 are never active" in found.table()


@settings(deadline=None)
@given(st.lists(st.integers(-1, 3), min_size=4, max_size=4), st.lists(st.integers(-1, 3), min_size=3, max_size=3))
def test_audit_by_definition(act: list[int], head: list[int]) -> None:
    base = labelled(act, head)
    found, names = base.audit(), base.concepts.names
    assert {one.concept for one in found.shared} == {names[c] for c in {*act} & {*head} - {-1}}
    assert set(found.missing) == {name for c, name in enumerate(names) if c not in (*act, *head)}
    assert [one.block for one in found.divided] == [b for b in (0, 1) if act[2 * b] == act[2 * b + 1] >= 0]


def test_long_lists_are_cut() -> None:
    shared = [SharedConcept(f"c{i}", {"a": [i], "b": [i]}) for i in range(5)]
    text = Audit(9, shared, [f"m{i}" for i in range(4)], []).table(rows=2)
    assert "… and 3 more" in text
    assert "m0, m1, … and 2 more" in text
