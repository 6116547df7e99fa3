"""Figures of a layer's labels, and the controls in which there is nothing to believe."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lwta.dissection import Concepts, Dissection, Embeddings, Probe
from lwta.dissection.labels.choosing import choose
from lwta.dissection.moments import sample
from lwta.dissection.recording.activations import DenseActivations
from lwta.dissection.scoring.trust_figures import (
    NOT_SPECIFIC,
    TrustFigures,
    controls,
    rotated,
    shuffled,
    trust_figures,
    verdict,
)
from lwta.dissection.trust.cross_validation import Trust
from tests.support.trust import World, planted
from tests.support.worlds import recorded


def named(world: World, values: Tensor | None = None, similarity: str = "linear") -> Dissection:
    recording = recorded(DenseActivations(world.activations if values is None else values), world.features)
    names = [f"word {i}" for i in range(len(world.texts))]
    clip = Embeddings(recording.keys, world.features, names, world.texts)
    concepts = Concepts(clip.concepts)
    chosen = choose(recording, similarity, concepts.encode(clip))
    probe = Probe.of([(key, None) for key in recording.keys])
    return Dissection(None, None, probe, clip, recording, concepts, similarity, chosen)


def test_shuffled_activations_are_those_of_each_neuron_in_another_order() -> None:
    torch.manual_seed(7)  # not the seed of the shuffle: the same stream of numbers would make both alike
    values = torch.randn(300, 20)
    found = shuffled(values)
    assert torch.equal(found.sort(0).values, values.sort(0).values)
    assert torch.equal(found, shuffled(values, seed=0))
    assert not torch.equal(found, shuffled(values, seed=1))
    table = torch.corrcoef(torch.cat([values, found], 1).T)
    assert float((table - torch.eye(40)).abs().max()) < 0.3  # each by itself: no neuron goes with itself or another
    rows = torch.arange(300.0)[:, None].expand(300, 2)
    assert float((shuffled(rows)[:, 0] == shuffled(rows)[:, 1]).double().mean()) < 0.05


def test_a_rotation_keeps_the_geometry_of_standardised_activations() -> None:
    values = torch.randn(200, 15) @ torch.randn(15, 15) * torch.logspace(-3, 3, 15) + 5
    standard = ((values - values.mean(0)) / values.std(0, correction=0)).double()
    found = rotated(values).double()
    torch.testing.assert_close(found @ found.T, standard @ standard.T, rtol=0, atol=1e-3)
    basis = torch.linalg.lstsq(standard, found).solution
    torch.testing.assert_close(basis.T @ basis, torch.eye(15).double(), rtol=0, atol=1e-3)
    assert float(basis.abs().max()) < 0.95
    assert torch.equal(rotated(values), rotated(values, seed=0))
    assert not torch.equal(rotated(values), rotated(values, seed=1))


def test_a_rotation_leaves_constant_neurons_out() -> None:
    values = torch.randn(100, 6)
    values[:, 2], values[:, 4] = 0, 7
    found = rotated(values)
    assert not found[:, [2, 4]].any()
    rest = values[:, [0, 1, 3, 5]]
    assert torch.equal(found[:, [0, 1, 3, 5]], rotated(rest))


def test_rotations_prefer_no_direction() -> None:
    values = torch.randn(40, 3)
    standard = ((values - values.mean(0)) / values.std(0, correction=0)).double()
    bases = torch.stack([torch.linalg.lstsq(standard, rotated(values, seed).double()).solution for seed in range(300)])
    assert float(bases.mean(0).abs().max()) < 0.2
    torch.testing.assert_close(bases.square().mean(0), torch.full((3, 3), 1 / 3).double(), rtol=0, atol=0.1)


def test_figures_of_a_layer_are_means_over_its_neurons() -> None:
    r = torch.tensor([0.5, 0.1, 0.6, math.nan, math.nan]).double()
    rank = torch.tensor([1, 1, 4, 0, 0])
    trust = Trust(r, r, r, rank, torch.tensor([99.0, 99, 99, math.nan, math.nan]), r, 200)
    found = trust_figures("layer", trust, torch.tensor([True, True, True, True, False]))
    assert found._replace(r=round(found.r, 6)) == TrustFigures("layer", 0.25, 0.4, 0.5, (1 + 1 + 0.25) / 4, 200)


def test_a_layer_of_which_nothing_is_judged_has_no_figures() -> None:
    nothing = torch.full((3,), math.nan).double()
    trust = Trust(nothing, nothing, nothing, torch.zeros(3).long(), nothing, nothing, 5)
    found = trust_figures("layer", trust, torch.zeros(3).bool())
    assert found.labelled == 0
    assert all(math.isnan(value) for value in (found.r, found.told_apart, found.reciprocal_rank))


@pytest.mark.parametrize("similarity", ["linear", "soft_wpmi"])
def test_controls_have_nothing_to_say(similarity: str) -> None:
    world = planted(800, neurons=30)
    dissection = named(world, similarity=similarity)
    layer = trust_figures("layer", dissection.chosen("layer").trust, dissection.recording.active("layer"))
    found = {one.name: one for one in controls(dissection, "layer", similarity, {})}
    assert list(found) == ["shuffled activations", "other neurons' words", "random rotation"]
    assert layer.labelled == 1
    assert layer.told_apart == 1
    assert layer.r > 0.5
    noise, others, turned = found.values()
    assert noise.labelled <= 0.04
    assert abs(noise.r) < 0.06
    assert noise.told_apart < 0.3
    assert others.r < 0.1
    assert math.isnan(others.labelled)
    assert math.isnan(others.told_apart)
    assert turned.r < layer.r - 0.1  # planted along the axes
    assert all(one.images == 800 for one in found.values())


def test_other_neurons_words_are_those_of_all_others() -> None:
    dissection = named(planted(500, neurons=10))
    others = next(one for one in controls(dissection, "layer", "linear", {}) if one.name == "other neurons' words")
    assert others.r == pytest.approx(float(dissection.chosen("layer").trust.of_others.mean()))


def test_other_networks_stand_beside() -> None:
    world = planted(400, neurons=10)
    dissection = named(world, similarity="correlation")
    untrained = named(world, torch.randn(400, 10), "correlation")
    found = controls(dissection, "layer", "correlation", {"untrained": untrained})
    assert found[-1].name == "untrained"
    trust = untrained.chosen("layer").trust
    assert found[-1] == trust_figures("untrained", trust, untrained.recording.active("layer"))
    other = type("Other", (), {"layers": ["head"]})()
    assert "elsewhere" not in [one.name for one in controls(dissection, "layer", "correlation", {"elsewhere": other})]


def test_a_sample_stands_for_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample.sampled, "__defaults__", (300,))
    found = controls(named(planted(800, neurons=10), similarity="correlation"), "layer", "correlation", {})
    assert found[0].name == "the layer on 300 images"
    assert found[0].images == found[1].images == 300
    assert found[0].labelled > 0.9
    assert found[1].labelled < 0.1


def test_the_verdict_is_told_where_labels_are_not_specific() -> None:
    figures = TrustFigures("layer", 0.1, 0.4567, 0.123, 0.2, 100)
    assert verdict(figures, "act") == (
        "act: the labels are not specific: only 12% of its neurons are told apart by their words from others of the "
        "layer; r = 0.46 shows what the neurons have in common"
    )
    for share in (NOT_SPECIFIC, 0.9, math.nan):
        assert verdict(figures._replace(told_apart=share), "act") is None
