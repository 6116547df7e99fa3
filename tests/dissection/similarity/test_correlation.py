"""Correlation against tables of all images by all words in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lwta.dissection.similarity import Correlation, Cos
from lwta.dissection.similarity.base import Words, contrasts
from tests.support.similarities import pieces, scored, shards, unit_rows
from tests.support.trust import contrast_signals, correlation_table, dense_statistics, planted


def awkward(images: int = 400) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings and texts far from 0, and neurons of which one is dead, one constant, one far from 0, one rare."""
    features = torch.nn.functional.normalize(torch.randn(images, 16) + 2, dim=1)
    texts = torch.nn.functional.normalize(torch.randn(30, 16) - 1, dim=1)
    values = torch.randn(images, 8).relu() + 3 * features[:, :8].relu()
    values[:, 2] = 0
    values[:, 3] = -4.5
    values[:, 4] += 1000
    values[:, 5] = torch.arange(images) == 11
    return features, texts, values


@pytest.mark.parametrize("size", [13, 64, 400])
def test_scores_are_the_correlations_with_the_contrasts(size: int) -> None:
    features, texts, values = awkward()
    found = scored(Correlation(), shards(features, values, pieces(400, size)), texts)
    wanted = correlation_table(values, contrast_signals(features, texts))
    assert wanted.isnan().any(1).tolist() == [False, False, True, True, False, False, False, False]
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5, equal_nan=True)


def test_scores_do_not_change_with_the_units_of_a_neuron() -> None:
    features, texts, values = awkward()
    found = scored(Correlation(), shards(features, values, pieces(400, 400)), texts)
    changed = scored(Correlation(), shards(features, 0.5 * values + 3, pieces(400, 400)), texts)
    torch.testing.assert_close(changed, found, rtol=0, atol=1e-5, equal_nan=True)


def test_a_word_that_is_the_same_on_all_images_correlates_with_nothing() -> None:
    features = torch.nn.functional.normalize(torch.randn(200, 8), dim=1) * 0.6
    features[:, 7] = 0.8
    words = torch.cat([torch.randn(3, 7), torch.zeros(3, 1)], 1)
    always = torch.eye(8)[7:]
    texts = torch.cat([words, -words, always, -always])  # of mean 0
    values = features[:, :2] + 0.1 * torch.randn(200, 2)
    found = scored(Correlation(), shards(features, values, pieces(200, 50)), texts)
    assert found[:, 6:].tolist() == [[0, 0], [0, 0]]
    wanted = correlation_table(values, contrast_signals(features, texts))
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)


def test_one_concept_is_no_contrast() -> None:
    features, texts, values = awkward()
    with pytest.raises(ValueError, match="concepts must hold at least two words, got 1: a label is what a neuron"):
        scored(Correlation(), shards(features, values, pieces(400, 400)), texts[:1])


def test_contrasts_add_up_to_nothing() -> None:
    texts = unit_rows(30, 9).double()
    torch.testing.assert_close(contrasts(texts).sum(0), torch.zeros(9).double(), rtol=0, atol=1e-12)


def test_cos_is_the_cosine_of_columns_that_are_not_centred() -> None:
    features, texts, values = awkward()
    found = scored(Cos(), shards(features, values, pieces(400, 64)), texts)
    P, A = features.double() @ texts.double().T, values.double()
    wanted = (A / A.norm(dim=0)).T @ (P / P.norm(dim=0))
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5, equal_nan=True)
    statistics = dense_statistics(values, features)
    torch.testing.assert_close(Cos().scores(statistics, texts), found, rtol=0, atol=1e-5, equal_nan=True)


def test_the_word_of_a_neuron_is_that_of_its_highest_score() -> None:
    world = planted()
    for similarity in (Correlation(), Cos()):
        statistics = dense_statistics(world.activations, world.features)
        scores = similarity.scores(statistics, world.texts)
        (words,) = similarity.paths(statistics, world.texts)
        assert words.concepts.flatten().tolist() == scores.argmax(1).tolist()
        assert words.weights.flatten().tolist() == [1.0] * len(scores)
    (words,) = Correlation().paths(statistics, world.texts)
    assert words.concepts.flatten().tolist() == world.concepts


def test_a_neuron_without_a_score_has_no_word() -> None:
    features, texts, values = awkward()
    statistics = dense_statistics(values, features)
    (words,) = Correlation().paths(statistics, texts)
    assert (words.concepts.flatten() == -1).nonzero().flatten().tolist() == [2, 3]
    assert words.weights.flatten().tolist() == [1, 1, 0, 0, 1, 1, 1, 1]
    directions = words.directions(statistics, contrasts(texts))
    assert not directions[[2, 3]].any()


def test_directions_predict_the_weighted_sum_of_standardised_contrasts() -> None:
    features, texts, _ = awkward()
    statistics = dense_statistics(torch.randn(400, 3), features)
    words = Words(
        torch.tensor([[4, 7], [2, -1], [-1, -1]]), torch.tensor([[2.0, 0.5], [1.0, 0.0], [0.0, 0.0]]).double()
    )
    S = contrast_signals(features, texts)
    S = S / S.std(0, correction=0)
    wanted = torch.stack([2 * S[:, 4] + 0.5 * S[:, 7], S[:, 2], torch.zeros(400).double()], 1)
    found = features.double() @ words.directions(statistics, contrasts(texts)).T
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
