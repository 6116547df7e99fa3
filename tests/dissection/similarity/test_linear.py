"""Linear explanations: weights, words and their order, against definitions and neurons of known making."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor

from lwta.dissection.labels.choosing import choose_by_moments
from lwta.dissection.similarity import Linear, Words, linear
from lwta.dissection.similarity.linear import non_negative
from tests.support.similarities import pieces, scored, shards
from tests.support.trust import (
    World,
    contrast_signals,
    correlation_table,
    dense_statistics,
    moments_by_fold,
    planted,
    predictions,
)


def paths(world: World, values: Tensor | None = None, words: int = 5, **settings: float) -> list[Words]:
    statistics = dense_statistics(world.activations if values is None else values, world.features)
    return Linear(words, **settings).paths(statistics, world.texts)


def standard_signals(world: World) -> Tensor:
    """Contrasts in units of their deviations, (n, M)."""
    S = contrast_signals(world.features, world.texts)
    return (S - S.mean(0)) / S.std(0, correction=0)


def mixtures(world: World, pairs: list[tuple[int, int]], noise: float = 0.5) -> Tensor:
    """Neurons that are twice the first word and once the second."""
    S = standard_signals(world)
    values = torch.stack([2 * S[:, a] + S[:, b] for a, b in pairs], 1)
    return (values + noise * torch.randn(values.shape)).float()


PAIRS = [(word, word + 1) for word in range(0, 24, 2)]


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95])
def test_non_negative_weights_minimise_the_squared_distance(correlation: float) -> None:
    """They are those of the textbook, and meet the conditions of Karush, Kuhn and Tucker."""
    common = torch.randn(40, 50, 1, dtype=torch.float64)
    X = (1 - correlation) ** 0.5 * torch.randn(40, 50, 6, dtype=torch.float64) + correlation**0.5 * common
    y = torch.randn(40, 50, dtype=torch.float64) + X[..., 0] - 0.5 * X[..., 1] + 0.3 * X[..., 2]
    gram, goal = X.mT @ X / 50, (X.mT @ y[..., None])[..., 0] / 50
    found = non_negative(gram, goal)
    wanted = torch.tensor(np.stack([nnls(x.numpy(), of.numpy())[0] for x, of in zip(X, y, strict=True)]))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    slope = (gram @ found[..., None])[..., 0] - goal
    assert bool((found >= 0).all())
    assert float(slope[found > 0].abs().max()) < 1e-4
    assert float(slope[found == 0].min()) > -1e-4


def test_words_that_say_the_same_take_a_few_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """No system of equations has their weights; those that sweeps leave as they are predict as well as any."""
    neurons: list[int] = []
    swept = linear._swept
    monkeypatch.setattr(linear, "_swept", lambda *of: neurons.append(len(of[0])) or swept(*of))  # type: ignore[func-returns-value]
    X = torch.randn(20, 50, 2)[..., [0, 1, 0, 1, 0]]
    y = X @ torch.tensor([2.0, -1, 1, 0, 0]) + 0.1 * torch.randn(20, 50)
    gram, goal = X.mT @ X / 50, (X.mT @ y[..., None])[..., 0] / 50
    found = non_negative(gram, goal)
    assert neurons[0] == 20
    assert sum(neurons) < 60  # of most neurons nothing changes after a time or two
    wanted = torch.tensor(np.stack([nnls(x.numpy(), of.numpy())[0] for x, of in zip(X, y, strict=True)])).float()
    torch.testing.assert_close(X @ found[..., None], X @ wanted[..., None], rtol=0, atol=1e-4)


def test_weights_are_those_of_least_squares_for_their_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target is a neuron's activation less that of those with which it would be confused."""
    fits: list[tuple[Tensor, Tensor, Tensor]] = []

    def noted(gram: Tensor, goal: Tensor) -> Tensor:
        fits.append((gram, goal, non_negative(gram, goal)))
        return fits[-1][-1]

    monkeypatch.setattr(linear, "non_negative", noted)
    settled: list[Tensor] = []
    target = linear._Fit._target
    monkeypatch.setattr(linear._Fit, "_target", lambda fit, p: settled.append(p) or target(fit, p))  # type: ignore[func-returns-value]
    world = planted(images=500)
    words = paths(world)[-1]
    assert len(fits) == 5 * linear.ROUNDS
    S, A = standard_signals(world), world.activations.double()
    a = (A - A.mean(0)) / A.std(0, correction=0)
    p = settled[-1].double()
    torch.testing.assert_close(p.sum(1), torch.ones(len(p)).double(), rtol=0, atol=1e-5)
    for neuron, (concepts, weights) in enumerate(zip(*words, strict=True)):
        chosen = concepts[concepts >= 0]
        goal = a[:, neuron] - a @ p[neuron]
        wanted, _ = nnls(S[:, chosen].numpy(), goal.numpy())
        assert weights[: len(chosen)].tolist() == pytest.approx(wanted.tolist(), abs=1e-3 * wanted.max())
        left = goal - S[:, chosen] @ torch.tensor(wanted)
        slope = S.T @ left / len(left)
        for k, (gram, of_all, found) in enumerate(fits[-linear.ROUNDS :]):
            gradient = gram[neuron].double() @ found[neuron].double() - of_all[neuron].double()
            assert float(gradient[found[neuron] > 0].abs().max()) < 1e-4, k
            assert float(gradient.min()) > -1e-4, k
        assert float(slope[chosen].abs().max()) < 1e-3


def test_a_neuron_is_confused_with_those_that_its_words_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    confused: list[tuple[Tensor, Tensor, Tensor]] = []
    of = linear._Fit._confused

    def noted(fit: linear._Fit, words: Tensor, gram: Tensor, weights: Tensor) -> Tensor:
        confused.append((words, weights, of(fit, words, gram, weights)))
        return confused[-1][-1]

    monkeypatch.setattr(linear._Fit, "_confused", noted)
    world = planted(images=500)
    paths(world, words=3, temperature=0.1)
    words, weights, found = (part.double() for part in confused[-1])
    predicted = world.features.double() @ torch.einsum("ik,ikd->id", weights, words).T
    r = correlation_table(predicted, world.activations)
    torch.testing.assert_close(found, (r / 0.1).softmax(1), rtol=0, atol=1e-4)


def test_explanations_are_nested() -> None:
    found = paths(planted(), words=6)
    assert len(found) == 6
    for k, words in enumerate(found, start=1):
        assert words.concepts.shape == words.weights.shape == (24, k)
        assert words.weights.dtype == torch.float64
    chosen = [[set(row[row >= 0].tolist()) for row in words.concepts] for words in found]
    ever = [set[int]() for _ in range(24)]
    for k, sets in enumerate(chosen, start=1):
        for neuron, words in enumerate(sets):
            assert len(words) <= k
            ever[neuron] |= words  # a word may lose its weight, but none comes in its place
            assert len(ever[neuron]) <= k


def test_words_are_in_the_order_of_their_weights_and_none_has_no_weight() -> None:
    seen_none = False
    for words in paths(planted(neurons=40), words=10):
        assert bool((words.weights[:, :-1] >= words.weights[:, 1:]).all())
        assert torch.equal(words.weights > 0, words.concepts >= 0)
        seen_none |= bool((words.concepts < 0).any())
        for row in words.concepts:
            kept = row[row >= 0].tolist()
            assert len(set(kept)) == len(kept)
    assert seen_none


def test_the_first_word_is_the_one_nearest_to_what_sets_a_neuron_apart() -> None:
    world = planted(images=500)
    A = world.activations.double()
    a = (A - A.mean(0)) / A.std(0, correction=0)
    gains = standard_signals(world).T @ (a - a.mean(1, keepdim=True))
    assert paths(world, words=1)[0].concepts.flatten().tolist() == gains.argmax(0).tolist() == world.concepts


def independent(images: int = 2000, words: int = 40, width: int = 64) -> World:
    """Words that images show independently of each other, so that one can never stand for another."""
    features = torch.nn.functional.normalize(torch.randn(images, width) + torch.randn(width), dim=1)
    texts = torch.linalg.qr(torch.randn(width, words)).Q.T
    return World(features, texts, torch.empty(images, 0), [])


@pytest.mark.parametrize("noise", [0.2, 1.0, 2.0])
def test_two_planted_words_are_found_in_the_order_of_their_weights(noise: float) -> None:
    world = independent()
    found = paths(world, mixtures(world, PAIRS, noise), words=2)[-1]
    assert [tuple(row) for row in found.concepts.tolist()] == PAIRS
    ratios = found.weights[:, 0] / found.weights[:, 1]
    assert float(ratios.min()) > 1.4
    assert float(ratios.max()) < 2.9


def test_cross_validation_stops_at_the_planted_words() -> None:
    world = independent()
    moments = moments_by_fold(mixtures(world, PAIRS), world.features, torch.arange(2000) % 8)
    found = choose_by_moments(Linear(), moments, world.texts)
    assert [tuple(row) for row in found.words.concepts.tolist()] == PAIRS  # and no third
    assert float(found.trust.r.min()) > 0.9
    assert bool(found.trust.told_apart.all())


def test_neighbours_that_share_a_word_are_told_apart_by_the_other() -> None:
    """A greedy choice for the activation itself would give all of them the shared word first."""
    world = planted()
    shared, own = 20, list(range(12))
    values = mixtures(world, [(shared, word) for word in own], noise=0.3)
    S = standard_signals(world)
    r = correlation_table(values, S)
    assert set(r.argmax(1).tolist()) == {shared}
    found = paths(world, values, words=2)
    assert found[0].concepts.flatten().tolist() == own
    predicted = predictions(found[-1], S, torch.ones(len(S)).bool())
    assert correlation_table(predicted, values).argmax(1).tolist() == list(range(12))


def test_scores_are_correlations_with_single_words() -> None:
    world = planted(images=300)
    found = scored(Linear(), shards(world.features, world.activations, pieces(300, 50)), world.texts)
    wanted = correlation_table(world.activations, contrast_signals(world.features, world.texts))
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)


def test_dead_and_constant_neurons_have_no_words_and_change_nothing_for_others() -> None:
    world = planted(images=300)
    alive = world.activations[:, :6]
    values = torch.cat([alive, torch.zeros(300, 1), torch.full((300, 1), -2.5)], 1)
    for found, wanted in zip(paths(world, values), paths(world, alive), strict=True):
        assert torch.equal(found.concepts[:6], wanted.concepts)
        torch.testing.assert_close(found.weights[:6], wanted.weights, rtol=1e-4, atol=1e-6)
        assert bool((found.concepts[6:] == -1).all())
        assert not found.weights[6:].any()


def test_all_neurons_constant_is_no_error() -> None:
    world = planted(images=100)
    for words in paths(world, torch.ones(100, 3)):
        assert bool((words.concepts == -1).all())
        assert not words.weights.any()


@pytest.mark.parametrize("constant", [0, 1])
def test_a_neuron_alone_in_its_layer_is_explained_by_what_it_follows(constant: int) -> None:
    """There is nothing to tell it apart from."""
    world = planted()
    values = torch.cat([mixtures(world, [(4, 9)]), torch.ones(1000, constant)], 1)
    found = paths(world, values, words=2)
    assert found[0].concepts[0].tolist() == [4]
    assert found[1].concepts[0].tolist() == [4, 9]
    a = (values[:, 0] - values[:, 0].mean()).double() / values[:, 0].std(correction=0)
    wanted, _ = nnls(standard_signals(world)[:, [4, 9]].numpy(), a.numpy())
    assert found[1].weights[0].tolist() == pytest.approx(wanted.tolist(), abs=1e-4)


def test_one_concept_is_no_contrast() -> None:
    world = planted(images=100)
    statistics = dense_statistics(world.activations, world.features)
    for make in (Linear().paths, Linear().scores):
        with pytest.raises(ValueError, match="concepts must hold at least two words, got 1"):
            make(statistics, world.texts[:1])


@pytest.mark.parametrize("count", [2, 3])
def test_a_list_shorter_than_an_explanation_gives_shorter_ones(count: int) -> None:
    world = planted(images=300)
    found = Linear().paths(dense_statistics(world.activations, world.features), world.texts[:count])
    assert [words.concepts.shape[1] for words in found] == list(range(1, count + 1))
    assert bool((found[-1].concepts < count).all())


def test_words_that_are_the_same_on_all_images_are_never_chosen() -> None:
    features = torch.randn(300, 8)
    features[:, 7] = 0.8
    words = torch.cat([torch.randn(3, 7), torch.zeros(3, 1)], 1)
    always = torch.eye(8)[7:]
    texts = torch.cat([always, words, -words, -always])
    statistics = dense_statistics(features[:, :4] + 0.1 * torch.randn(300, 4), features)
    for found in Linear(8).paths(statistics, texts):
        assert not bool(((found.concepts == 0) | (found.concepts == 7)).any())
        assert bool(found.weights.isfinite().all())


def test_shards_give_the_words_of_the_whole() -> None:
    world = planted(images=300)
    found = []
    for size in (300, 41):
        similarity = Linear(3)
        for part in shards(world.features, world.activations, pieces(300, size)):
            similarity.update(part)
        found.append(similarity.explain(world.texts))
    assert torch.equal(found[0].concepts, found[1].concepts)
    assert torch.equal(found[0].weights, found[1].weights)
    wanted = paths(world, words=3)[-1]
    assert torch.equal(found[0].concepts, wanted.concepts)
    torch.testing.assert_close(found[0].weights, wanted.weights, rtol=1e-3, atol=1e-5)


def test_wrong_parameters_are_told() -> None:
    for words in (0, 11):
        with pytest.raises(ValueError, match=rf"words must be 1…10, got {words}"):
            Linear(words)
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        Linear(temperature=0)
