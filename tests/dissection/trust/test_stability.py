"""Stability: folds drawn anew, and the words that carry the choices."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from lwta.dissection.similarity import Correlation, Linear, Words
from lwta.dissection.trust.stability import RESAMPLES, resampled, stable_sets
from tests.support.trust import dense_statistics, moments_by_fold, planted


def words(*concepts: int) -> Words:
    return Words(torch.tensor(concepts)[:, None], torch.ones(len(concepts), 1).double())


@given(st.lists(st.integers(-1, 5), min_size=1, max_size=25))
def test_stable_sets_are_the_smallest_that_carry_nine_tenths(choices: list[int]) -> None:
    (found,) = stable_sets(words(choice) for choice in choices)
    counts = Counter(choice for choice in choices if choice >= 0)
    carried = [counts[concept] for concept in found]
    assert len(set(found)) == len(found)
    assert carried == sorted(carried, reverse=True)
    assert 10 * sum(carried) >= 9 * counts.total()
    assert not found or 10 * sum(carried[:-1]) < 9 * counts.total()  # one less would not do
    assert sum(carried) == sum(sorted(counts.values(), reverse=True)[: len(found)])  # no other set is smaller


def test_only_the_first_word_counts_and_every_neuron_has_its_set() -> None:
    first = Words(torch.tensor([[1, 2], [3, -1], [-1, -1]]), torch.ones(3, 2).double())
    second = Words(torch.tensor([[1, 3], [4, 3], [-1, -1]]), torch.ones(3, 2).double())
    assert stable_sets([first, second]) == [[1], [3, 4], []]


def test_folds_are_drawn_whole_and_with_replacement() -> None:
    world = planted(400, neurons=10, noise=3.0)
    folds = torch.tensor([0, 2, 3, 6])[torch.arange(400) % 4]
    moments = moments_by_fold(world.activations, world.features, folds)
    found = resampled(Correlation(), moments, world.texts, seed=5)
    draws = torch.randint(0, 4, (RESAMPLES, 4), generator=torch.Generator().manual_seed(5))
    present = [0, 2, 3, 6]
    for choice, draw in zip(found, draws.tolist(), strict=True):
        rows = torch.cat([(folds == present[k]).nonzero().flatten() for k in draw])  # an image as often as its fold
        statistics = dense_statistics(world.activations[rows], world.features[rows])
        (wanted,) = Correlation().paths(statistics, world.texts)
        assert torch.equal(choice.concepts, wanted.concepts)


def test_draws_go_by_their_seed() -> None:
    world = planted(200, neurons=10, noise=3.0)
    moments = moments_by_fold(world.activations, world.features, torch.arange(200) % 8)

    def concepts(seed: int) -> list[list[int]]:
        return [choice.concepts[:, 0].tolist() for choice in resampled(Correlation(), moments, world.texts, seed)]

    assert concepts(0) == concepts(0) != concepts(1)


def test_planted_words_are_stable_and_those_of_noise_are_not() -> None:
    world = planted(600, neurons=20)
    folds = torch.arange(600) % 8
    for similarity in (Correlation(), Linear(2)):
        planted_sets = stable_sets(
            resampled(similarity, moments_by_fold(world.activations, world.features, folds), world.texts)
        )
        noise = stable_sets(
            resampled(similarity, moments_by_fold(torch.randn(600, 20), world.features, folds), world.texts)
        )
        assert [one[0] for one in planted_sets] == world.concepts
        assert sum(map(len, planted_sets)) <= 22
        assert sum(map(len, noise)) > 50
