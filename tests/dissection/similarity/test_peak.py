"""Peaks: the sum of two scores, each in units of its own deviation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lwta.dissection.similarity import Correlation, Peak, SoftWPMI
from tests.support.similarities import expected, pieces, scored, shards
from tests.support.trust import contrast_signals, correlation_table, planted


def standardised(scores: Tensor) -> Tensor:
    """Of mean 0 and deviation 1 over the words."""
    return (scores - scores.mean(1, keepdim=True)) / scores.std(1, correction=0, keepdim=True)


def test_scores_are_the_sum_of_the_standardised_scores_of_their_definitions() -> None:
    world = planted(images=500)
    found = scored(Peak(), shards(world.features, world.activations, pieces(500, 77)), world.texts)
    won = torch.ones_like(world.activations).bool()
    strongest = expected("soft_wpmi", world.features, world.texts, world.activations, won)
    r = correlation_table(world.activations, contrast_signals(world.features, world.texts))
    torch.testing.assert_close(found.double(), standardised(strongest) + standardised(r), rtol=0, atol=2e-3)
    assert found.argmax(1).tolist() == world.concepts


def test_scores_are_those_of_the_two_labelers() -> None:
    world = planted(images=500)
    parts = shards(world.features, world.activations, pieces(500, 500))
    both = [scored(one, parts, world.texts) for one in (SoftWPMI(), Correlation())]
    found = scored(Peak(), parts, world.texts)
    torch.testing.assert_close(found, sum(standardised(one) for one in both), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.mean(1), torch.zeros(len(found)), rtol=0, atol=1e-5)


def test_dead_neurons_have_no_score_and_constant_ones_that_of_their_strongest_images() -> None:
    world = planted(images=300)
    values = world.activations.clone()
    values[:, 0], values[:, 1] = 0, 2.5
    parts = shards(world.features, values, pieces(300, 100))
    found = scored(Peak(), parts, world.texts)
    assert found.isnan().all(1).tolist() == [True, *[False] * (len(found) - 1)]
    torch.testing.assert_close(found[1], standardised(scored(SoftWPMI(), parts, world.texts))[1], rtol=0, atol=1e-4)


def test_one_concept_is_no_contrast() -> None:
    world = planted(images=100)
    with pytest.raises(ValueError, match="at least two words, got 1"):
        scored(Peak(), shards(world.features, world.activations, pieces(100, 100)), world.texts[:1])
