"""Figures of whole layers, against the definitions."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lwta.dissection.recording.activations import DenseActivations, pool_winners
from lwta.dissection.scoring.layer_figures import active_per_image, redundancy, winner_entropy
from lwta.winners import Winners
from tests.support.worlds import activations_of, embedded, recorded


@pytest.mark.parametrize("competitors", [2, 3, 4])
def test_entropy_of_winners(competitors: int) -> None:
    indices = torch.randint(competitors, (11, 6, 2), dtype=torch.uint8)
    wins = pool_winners(Winners(torch.randn(11, 6, 2), indices, competitors), "mean")
    expected = []
    for block in range(2):
        p = [count / 66 for count in Counter(indices[..., block].flatten().tolist()).values()]
        expected.append(-sum(q * math.log(q) for q in p) / math.log(competitors))
    recording = recorded(wins, embedded(11, 4))
    assert winner_entropy(recording, "layer") == pytest.approx(sum(expected) / 2)


def test_entropy_of_one_that_always_wins_is_zero() -> None:
    wins = pool_winners(Winners(torch.randn(5, 3), torch.zeros(5, 3, dtype=torch.uint8), 2), "mean")
    assert winner_entropy(recorded(wins, embedded(5, 4)), "layer") == 0


@pytest.mark.parametrize("competitors", [None, 1])
def test_no_entropy_where_nothing_is_open(competitors: int | None) -> None:
    assert math.isnan(winner_entropy(recorded(activations_of(competitors, 5), embedded(5, 4)), "layer"))


@pytest.mark.parametrize("competitors", [None, 1, 2, 4])
def test_active_per_image(competitors: int | None) -> None:
    activations = activations_of(competitors, 9)
    if isinstance(activations, DenseActivations):
        active = activations.values != 0
    else:
        active = torch.zeros(9, 8)
        active[activations.images(), activations.units.long()] = 1
    share = active_per_image(recorded(activations, embedded(9, 4)), "layer")
    assert share == pytest.approx(float(active.double().mean()))


@settings(deadline=None)
@given(st.lists(st.integers(-1, 4), max_size=12))
def test_redundancy_is_of_those_that_are_not_alone(labels: list[int]) -> None:
    named = [label for label in labels if label >= 0]
    found = redundancy(torch.tensor(labels, dtype=torch.int64))
    expected = sum(named.count(label) > 1 for label in named) / len(named) if named else math.nan
    assert found == pytest.approx(expected, nan_ok=True)
