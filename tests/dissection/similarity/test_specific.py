"""Specific words against their definition, over tables in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lwta.dissection.similarity import Correlation, Specific
from tests.support.similarities import pieces, scored, shards
from tests.support.trust import contrast_signals, correlation_table, dense_statistics, planted


def definition(features: Tensor, texts: Tensor, values: Tensor, temperature: float, shrinkage: float) -> Tensor:
    """r less its soft maximum over the neurons, with covariances that are shrunk along each eigenvector."""
    F, A = features.double(), values.double()
    S = contrast_signals(features, texts)
    F, S = F - F.mean(0), S - S.mean(0)
    # what an image shows along an eigenvector counts λ / (λ + κ·λ̄)
    eigenvalues, vectors = torch.linalg.eigh(F.T @ F / len(F))
    kept = eigenvalues / (eigenvalues + shrinkage * eigenvalues.mean())
    T = texts.double() - texts.double().mean(0)
    shrunk = F @ vectors @ torch.diag(kept) @ vectors.T @ T.T
    a = (A - A.mean(0)) / A.std(0, correction=0)
    r = a.T @ shrunk / len(F) / S.std(0, correction=0)
    return r - temperature * torch.log(torch.exp(r / temperature).sum(0))


@pytest.mark.parametrize(("temperature", "shrinkage"), [(0.04, 0.0), (0.04, 0.5), (0.3, 3.0)])
def test_scores_are_log_probabilities_over_the_neurons(temperature: float, shrinkage: float) -> None:
    world = planted(images=600)
    found = scored(
        Specific(temperature, shrinkage), shards(world.features, world.activations, pieces(600, 128)), world.texts
    )
    wanted = definition(world.features, world.texts, world.activations, temperature, shrinkage)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)
    assert float(found.max()) <= 1e-6
    probabilities = (found.double() / temperature).exp()
    torch.testing.assert_close(probabilities.sum(0), torch.ones(len(world.texts)).double(), rtol=0, atol=1e-4)


def test_without_shrinkage_only_correlations_matter() -> None:
    world = planted(images=600)
    found = Specific(shrinkage=0).scores(dense_statistics(world.activations, world.features), world.texts)
    r = correlation_table(world.activations, contrast_signals(world.features, world.texts))
    torch.testing.assert_close(found.double(), r - 0.04 * torch.logsumexp(r / 0.04, 0), rtol=0, atol=1e-5)


def test_the_defaults_are_a_temperature_of_a_twenty_fifth_and_half_a_mean_eigenvalue() -> None:
    world = planted(images=300)
    found = Specific().scores(dense_statistics(world.activations, world.features), world.texts)
    wanted = definition(world.features, world.texts, world.activations, 0.04, 0.5)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)


def test_dead_and_constant_neurons_have_no_score_and_take_no_word_from_others() -> None:
    world = planted(images=600)
    alive = world.activations[:, :5]
    with_others = torch.cat([torch.zeros(600, 1), alive, torch.full((600, 1), 3.0)], 1)
    found = Specific().scores(dense_statistics(with_others, world.features), world.texts)
    assert found.isnan().all(1).tolist() == [True, *[False] * 5, True]
    wanted = Specific().scores(dense_statistics(alive, world.features), world.texts)
    torch.testing.assert_close(found[1:-1], wanted, rtol=0, atol=1e-6)


def test_a_word_that_the_whole_layer_follows_is_given_to_nobody() -> None:
    world = planted(noise=0.3)
    values = world.activations + 3 * contrast_signals(world.features, world.texts)[:, 40:41].float() / 0.05
    statistics = dense_statistics(values, world.features)
    assert set(Correlation().scores(statistics, world.texts).argmax(1).tolist()) == {40}
    specific = Specific().scores(statistics, world.texts).argmax(1)
    assert 40 not in specific.tolist()
    assert float((specific == torch.tensor(world.concepts)).double().mean()) > 0.8


def test_wrong_parameters_are_told() -> None:
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        Specific(temperature=0)
    with pytest.raises(ValueError, match="shrinkage must be 0 or more, got -1"):
        Specific(shrinkage=-1)
    with pytest.raises(ValueError, match="at least two words, got 1"):
        Specific().scores(dense_statistics(torch.randn(9, 2), torch.randn(9, 3)), torch.randn(1, 3))
