"""What is known of neurons besides their labels, against the definitions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lwta.dissection.recording.activations import Activations, DenseActivations, pool_winners
from lwta.dissection.scoring.neuron_figures import frequent_classes, monosemanticity, neuron_scores
from lwta.winners import Winners
from tests.support.worlds import dissected, embedded, images, recorded


def by_definition(a: Tensor, e: Tensor, mean: Tensor) -> float:
    """Equation 5 of embeddings less their mean, a pair of images at a time."""
    a = (a - a.min()) / (a.max() - a.min())
    e = torch.nn.functional.normalize(e - mean, dim=1)
    above = below = 0.0
    for i in range(len(a)):
        for j in range(len(a)):
            if i != j:
                above += float(a[i] * a[j] * (e[i] @ e[j]))
                below += float(a[i] * a[j])
    return above / below


@pytest.mark.parametrize("competitors", [None, 1, 2, 4])
def test_monosemanticity_is_the_weighted_mean_of_pairs(competitors: int | None) -> None:
    features = embedded(13, 5)
    if competitors is None:
        activations: Activations = DenseActivations(torch.randn(13, 8))
    else:
        blocks = 8 // competitors
        indices = torch.randint(competitors, (13, blocks), dtype=torch.uint8)
        activations = pool_winners(Winners(torch.randn(13, blocks), indices, competitors), "mean")
    dense = activations.dense()
    mean = 0.1 * torch.randn(5).double()  # of a larger probing set
    scores = monosemanticity(dense, features, mean)
    for neuron in range(8):
        expected = by_definition(dense[:, neuron].double(), features.double(), mean)
        assert float(scores[neuron]) == pytest.approx(expected, rel=1e-9)
    of_layer = neuron_scores(recorded(activations, features), "layer").monosemanticity
    for neuron in range(8):
        expected = by_definition(dense[:, neuron].double(), features.double(), features.double().mean(0))
        assert float(of_layer[neuron]) == pytest.approx(expected, abs=1e-5)  # embeddings are summed up in 22 bits


def test_a_neuron_of_one_kind_of_image_has_one() -> None:
    features = torch.eye(2)[torch.tensor([0, 0, 0, 1, 1])]
    values = torch.tensor([[1.0, 1], [2, 1], [3, 1], [0, 1], [0, 1]])
    scores = monosemanticity(values, features, features.double().mean(0))
    assert scores[0] == pytest.approx(1)
    assert scores[1].isnan()  # it answers all images alike


def test_activations_that_have_nothing_to_do_with_the_images_have_none() -> None:
    """However much all embeddings have in common."""
    features = torch.nn.functional.normalize(torch.randn(2000, 16) + 3, dim=1)
    mean = features.double().mean(0)
    scores = monosemanticity(torch.rand(2000, 50), features, mean)
    assert scores.abs().max() < 0.01
    seeing = (features - mean.float()) @ (features[:50] - mean.float()).T
    assert monosemanticity(seeing.relu(), features, mean).min() > 0.02


def test_scale_and_offset_of_activations_are_of_no_account() -> None:
    features, values = embedded(40, 6), torch.rand(40, 5)
    mean = features.double().mean(0)
    torch.testing.assert_close(
        monosemanticity(1e3 * values - 70, features, mean),
        monosemanticity(values, features, mean),
        rtol=1e-4,
        atol=1e-6,
    )


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
    scores = neuron_scores(dissected(probe=images(1)).recording, "act")
    assert scores.monosemanticity.isnan().all()
