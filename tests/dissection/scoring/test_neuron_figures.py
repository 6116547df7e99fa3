"""What is known of neurons besides their labels, against the definitions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lwta.dissection.recording.activations import Activations, DenseActivations, pool_winners
from lwta.dissection.scoring.neuron_figures import frequent_classes, monosemanticity, neuron_scores
from lwta.winners import Winners
from tests.support.worlds import dissected, images, recorded


def by_definition(a: Tensor, e: Tensor) -> float:
    """Equation 5, a pair of images at a time."""
    a = (a - a.min()) / (a.max() - a.min())
    above = below = 0.0
    for i in range(len(a)):
        for j in range(len(a)):
            if i != j:
                above += float(a[i] * a[j] * (e[i] @ e[j]))
                below += float(a[i] * a[j])
    return above / below


@pytest.mark.parametrize("competitors", [None, 1, 2, 4])
def test_monosemanticity_is_the_weighted_mean_of_pairs(competitors: int | None) -> None:
    torch.manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(13, 5), dim=1)
    if competitors is None:
        activations: Activations = DenseActivations(torch.randn(13, 8))
    else:
        blocks = 8 // competitors
        indices = torch.randint(competitors, (13, blocks), dtype=torch.uint8)
        activations = pool_winners(Winners(torch.randn(13, blocks), indices, competitors), "mean")
    scores = monosemanticity(recorded(activations, features), "layer")
    dense = activations.dense().double()
    for neuron in range(8):
        assert float(scores[neuron]) == pytest.approx(by_definition(dense[:, neuron], features.double()), rel=1e-9)


def test_a_neuron_of_one_kind_of_image_has_one() -> None:
    features = torch.eye(2)[torch.tensor([0, 0, 0, 1, 1])]
    values = torch.tensor([[1.0, 1], [2, 1], [3, 1], [0, 1], [0, 1]])
    scores = monosemanticity(recorded(DenseActivations(values), features), "layer")
    assert scores[0] == pytest.approx(1)
    assert scores[1].isnan()  # it answers all images alike


def test_classes_are_those_of_the_images_it_won() -> None:
    labels = ["cat", "cat", "dog", None]
    indices = torch.tensor([[0], [0], [0], [1]], dtype=torch.uint8)
    activations = pool_winners(Winners(torch.tensor([[1.0], [-2], [3], [4]]), indices, 2), "mean")
    scores = neuron_scores(recorded(activations, torch.eye(4), labels), "layer")
    assert scores.classes == [[("cat", pytest.approx(2 / 3)), ("dog", pytest.approx(1 / 3))], []]


def test_without_competition_those_of_its_top_images() -> None:
    values = torch.tensor([[1.0, 0], [2, 0], [0, 0], [-1, 0]])
    recording = recorded(DenseActivations(values), torch.eye(4), ["cat", "dog", "cow", None])
    assert frequent_classes(recording, "layer") == [[("cat", 0.5), ("dog", 0.5)], []]


def test_without_labels_there_are_no_classes() -> None:
    recording = recorded(DenseActivations(torch.ones(3, 2)), torch.eye(3))
    assert frequent_classes(recording, "layer") == [[], []]


def test_a_single_image_has_no_pairs() -> None:
    scores = monosemanticity(dissected(probe=images(1)).recording, "act")
    assert scores.isnan().all()
