"""Abstention: each reason, and what is left of labels where there is nothing to label."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lwta.dissection.labels.choosing import Chosen, choose
from lwta.dissection.recording.activations import DenseActivations
from lwta.dissection.scoring.trust_figures import shuffled
from lwta.dissection.similarity import SIMILARITIES
from lwta.dissection.trust.abstention import NEVER, Abstention
from lwta.dissection.trust.cross_validation import LEAST_IMAGES, Trust
from tests.support.trust import World, planted
from tests.support.worlds import recorded


def trust(r: float = 0.5, rank: int = 1, percentile: float = 99.0, images: int = 100) -> Trust:
    number = torch.tensor([r], dtype=torch.float64)
    return Trust(number, number - 0.1, number + 0.1, torch.tensor([rank]), torch.tensor([percentile]), number, images)


def reason(rule: Abstention | None = None, active: bool = True, **figures: float) -> str | None:
    (found,) = (rule or Abstention()).reasons(trust(**figures), torch.tensor([active]))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({}, None),
        ({"active": False}, NEVER),
        ({"active": False, "images": 3}, NEVER),
        ({"images": LEAST_IMAGES - 1}, "only 15 images, too few to check a label (16 are needed)"),
        ({"images": LEAST_IMAGES}, None),
        (
            {"r": math.nan, "rank": 0, "percentile": math.nan},
            "nothing to predict: the neuron, or what the words say of it, is the same on all images",
        ),
        ({"r": 0.1234, "rank": 3}, "predicts too little: r = 0.12 on images left out, 0.20 is needed"),
        ({"r": -0.9}, "predicts too little: r = -0.90 on images left out, 0.20 is needed"),
        ({"r": 0.2}, None),
        ({"r": 0.1999}, "predicts too little: r = 0.19 on images left out, 0.20 is needed"),
        ({"rank": 2}, "not told apart: the words predict another neuron of the layer better"),
        ({"rank": 5, "percentile": 1.0}, "not told apart: the words predict 4 other neurons of the layer better"),
        ({"percentile": 95.0}, None),
        (
            {"percentile": 80.3},
            "not its own: 20 % of other neurons' words, or of words for shuffled activations, predict as well",
        ),
    ],
)
def test_each_reason_is_told(figures: dict[str, float], expected: str | None) -> None:
    assert reason(**figures) == expected  # type: ignore[arg-type]


def test_thresholds_may_be_set() -> None:
    strict, lax = Abstention(r=0.6, null_percentile=99.5), Abstention(r=-1, null_percentile=0)
    assert reason(strict) == "predicts too little: r = 0.50 on images left out, 0.60 is needed"
    assert (reason(strict, r=0.7) or "").startswith("not its own: 1 % of")
    assert reason(strict, r=0.7, percentile=99.9) is None
    assert reason(lax, r=-0.5, percentile=0.0) is None
    assert reason(lax, rank=2) is not None  # another neuron's label is none
    assert reason(lax, r=math.nan) is not None


def test_every_neuron_has_its_own_reason() -> None:
    columns = torch.tensor([[0.5, 0.1, 0.5, 0.5, math.nan], [1, 1, 2, 1, 0], [99, 99, 99, 50, math.nan]]).double()
    r, rank, percentile = columns
    found = Abstention().reasons(
        Trust(r, r, r, rank.nan_to_num().long(), percentile, r, 100), torch.tensor([True] * 4 + [False])
    )
    starts = [None, "predicts too little", "not told apart", "not its own", NEVER]
    assert [one if one is None else one.split(":")[0] for one in found] == starts


def labelled(world: World, values: Tensor, name: str) -> tuple[Chosen, list[bool]]:
    recording = recorded(DenseActivations(values), world.features)
    chosen = choose(recording, name, world.texts)["layer"]
    return chosen, [one is None for one in Abstention().reasons(chosen.trust, recording.active("layer"))]


@pytest.fixture(scope="module")
def world() -> World:
    torch.manual_seed(0)
    return planted(1000, neurons=48)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_of_shuffled_activations_nearly_all_lose_their_labels(name: str, world: World) -> None:
    kept = [labelled(world, shuffled(world.activations, seed), name)[1] for seed in range(2)]
    assert sum(map(sum, kept)) <= 0.02 * 2 * 48


@pytest.mark.parametrize("name", SIMILARITIES)
def test_planted_neurons_keep_their_labels(name: str, world: World) -> None:
    chosen, kept = labelled(world, world.activations, name)
    words = chosen.words.concepts[:, 0].tolist()
    assert all(word == own for word, own, fits in zip(words, world.concepts, kept, strict=True) if fits)
    # two labelers that do not centre the signals are misled by what all images resemble: they abstain instead
    least = {"cos": 0.9, "jsd": 0.7}.get(name, 1.0)
    assert sum(kept) >= least * 48


@pytest.mark.parametrize("name", ["correlation", "linear", "soft_wpmi"])
def test_few_images_are_no_excuse(name: str) -> None:
    """The fewer images, the more goes by chance: a fixed threshold of r would let a third of these pass."""
    kept = total = 0
    for seed, images in enumerate((60, 120)):
        torch.manual_seed(seed)
        world = planted(images, neurons=40)
        _, fits = labelled(world, shuffled(world.activations), name)
        kept, total = kept + sum(fits), total + 40
    assert kept <= 0.08 * total
    assert sum(labelled(world, world.activations, name)[1]) >= 38


def test_half_of_a_layer_may_be_noise(world: World) -> None:
    values = world.activations.clone()
    values[:, 24:] = shuffled(values[:, 24:])
    kept = labelled(world, values, "linear")[1]
    assert all(kept[:24])
    assert not any(kept[24:])


def test_neurons_that_follow_one_word_are_not_told_apart(world: World) -> None:
    values = world.activations[:, :1] + 0.5 * torch.randn(1000, 48)
    chosen, kept = labelled(world, values, "correlation")
    assert set(chosen.words.concepts[:, 0].tolist()) == {0}
    assert float(chosen.trust.r.min()) > 0.4
    assert sum(kept) <= 2  # the one that follows it best
