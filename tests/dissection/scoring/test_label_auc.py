"""Recordings of some of the images, and the check of labels on images held out, against the definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lwta.dissection.recording.activations import Activations, DenseActivations
from lwta.dissection.scoring.label_auc import concept_aucs, confidence
from tests.support.worlds import activations_of, embedded, in_batches, recorded


def auc_by_pairs(activations: Activations, features: Tensor, concept: Tensor, neuron: int) -> float:
    """Every pair of an exciting image and another; of keys that run against the images, ties go to the later."""
    values = activations.dense(absent=float("-inf"))[:, neuron]
    if activations.competitors is None:
        values = values.masked_fill(values == 0, float("-inf"))
    order = sorted(range(len(values)), key=lambda i: (-float(values[i]), -i))
    positive = [i for i in order[: -(-len(values) // 20)] if values[i] > float("-inf")]
    cosines = (features.double() @ concept.double()).float()
    pairs = [(p, n) for p in positive for n in range(len(values)) if n not in positive]
    if not pairs:
        return float("nan")
    return sum(float(cosines[p] > cosines[n]) + float(cosines[p] == cosines[n]) / 2 for p, n in pairs) / len(pairs)


@pytest.mark.parametrize("competitors", [None, 1, 2, 4])
@pytest.mark.parametrize("size", [1, 16, 57])
def test_auc_is_the_share_of_pairs_in_the_right_order(competitors: int | None, size: int) -> None:
    activations, features = activations_of(competitors, 57, positions=1), embedded(57, 5)
    features[20:40] = features[:20]  # so that cosines are equal
    if isinstance(activations, DenseActivations):
        activations.values[:, 3] = 0
        activations.values[1:, 4] = 0
    concepts = embedded(8, 5)
    concepts[1] = float("nan")
    aucs = concept_aucs(in_batches(activations, features, size), "layer", concepts)
    for neuron in range(8):
        expected = float("nan") if neuron == 1 else auc_by_pairs(activations, features, concepts[neuron], neuron)
        assert float(aucs[neuron]) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_right_concepts_predict_and_shuffled_ones_do_not() -> None:
    concepts = embedded(200, 16)
    features = embedded(600, 16)
    activations = DenseActivations((features @ concepts.T).relu())
    recording = in_batches(activations, features, 100)
    right = confidence(concept_aucs(recording, "layer", concepts))
    wrong = confidence(concept_aucs(recording, "layer", concepts[torch.randperm(200)]))
    assert right.low > 0.99
    assert wrong.low < 0.5 < wrong.high
    assert wrong.high - wrong.low < 0.15


def test_one_image_predicts_nothing() -> None:
    aucs = concept_aucs(recorded(DenseActivations(torch.ones(1, 2)), torch.eye(1)), "layer", torch.ones(2, 1))
    assert aucs.isnan().all()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_the_interval_is_that_of_a_mean(values: list[float]) -> None:
    mean, low, high = confidence(torch.tensor([*values, float("nan")], dtype=torch.float64))
    average = sum(values) / len(values)
    variance = sum((value - average) ** 2 for value in values) / (len(values) - 1)
    assert mean == pytest.approx(average)
    assert high - mean == pytest.approx(1.959964 * (variance / len(values)) ** 0.5, abs=1e-9)
    assert mean - low == pytest.approx(high - mean, abs=1e-9)


def test_no_interval_of_one_neuron() -> None:
    assert confidence(torch.tensor([0.7])).mean == pytest.approx(0.7)
    assert confidence(torch.tensor([0.7])).low != confidence(torch.tensor([0.7])).low
