"""Choice of labels for a recording: by moments, or by all images with pairs of folds left out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from lwta.dissection.labels.choosing import Chosen, choose, choose_by_moments
from lwta.dissection.moments.folds import folds_of
from lwta.dissection.moments.measuring import moments_of
from lwta.dissection.moments.sums import LayerSums
from lwta.dissection.recording.activations import Activations, DenseActivations
from lwta.dissection.recording.layers import Layer
from lwta.dissection.recording.recording import MemoryRecording
from lwta.dissection.similarity import SIMILARITIES, Linear, Peak, Similarity, SoftWPMI, Words, similarities_of
from tests.support.similarities import pieces, scored, shards
from tests.support.trust import Definition, World, cross_validation, planted
from tests.support.worlds import activations_of, embedded, in_batches, recorded

PAIRS = [[0, 1], [2, 3], [4, 5], [6, 7]]


def chosen(world: World, similarity: str | Callable[[], Similarity], size: int = 100) -> Chosen:
    recording = in_batches(DenseActivations(world.activations), world.features, size)
    return choose(recording, similarity, world.texts)["layer"]


def by_definition(world: World, make: Callable[[], Similarity]) -> Definition:
    """By similarities that are made anew of the images outside a pair of folds."""
    images = len(world.features)
    folds = folds_of(f"{999 - i}" for i in range(images))
    ranks = torch.arange(images).flip(0)  # of equal activations the earlier key comes first

    def explain(mask: Tensor) -> list[Words]:
        rows = ranks[mask[ranks]]
        parts = shards(world.features[rows], world.activations[rows], pieces(len(rows), len(rows)))
        return [Words.single(scored(make(), parts, world.texts))]

    present = set(folds.tolist())
    groups = [[fold for fold in pair if fold in present] for pair in PAIRS if present & set(pair)]
    return cross_validation(world.activations, world.features, world.texts, folds, explain, groups)


@pytest.mark.parametrize("make", [partial(SoftWPMI, top_k=10), partial(SoftWPMI, top_k=100), Peak, SIMILARITIES["jsd"]])
@pytest.mark.parametrize("images", [400, 40])
def test_labels_by_all_images_are_judged_without_each_pair_of_folds(
    make: Callable[[], Similarity], images: int
) -> None:
    world = planted(images, neurons=12)
    found, wanted = chosen(world, make), by_definition(world, make)
    torch.testing.assert_close(found.trust.r, wanted.r, rtol=0, atol=1e-5, equal_nan=True)
    assert found.trust.rank.tolist() == wanted.rank.tolist()
    torch.testing.assert_close(found.trust.null_percentile, wanted.null_percentile, rtol=0, atol=1e-3)
    assert [fold for part in found.left_out for fold in part.folds] == list(range(8))
    assert len(found.left_out) == 4


def test_scores_are_those_of_all_images() -> None:
    world = planted(400, neurons=12)
    for name in ("soft_wpmi", "correlation", "linear", "cos_cubed"):
        found = chosen(world, name)
        wanted = scored(SIMILARITIES[name](), shards(world.features, world.activations, pieces(400, 400)), world.texts)
        assert found.similarity == name
        torch.testing.assert_close(found.scores, wanted, rtol=1e-5, atol=2e-3)
        if name != "linear":
            assert found.words.concepts[:, 0].tolist() == found.scores.argmax(1).tolist()


@pytest.mark.parametrize("name", ["linear", "soft_wpmi", "peak"])
def test_labels_do_not_depend_on_the_shards(name: str) -> None:
    world = planted(300, neurons=10)
    one, other = chosen(world, name, size=300), chosen(world, name, size=17)
    assert torch.equal(one.scores, other.scores)
    assert all(torch.equal(a, b) for a, b in zip(one.words, other.words, strict=True))
    assert all(torch.equal(getattr(one.trust, part), getattr(other.trust, part)) for part in ("r", "low", "rank"))


@pytest.mark.parametrize("competitors", [2, 4])
def test_winners_are_labelled_as_their_dense_matrix(competitors: int) -> None:
    activations, features, texts = activations_of(competitors, 300), embedded(300, 12), embedded(30, 12)
    pair: list[Activations] = [activations, DenseActivations(activations.dense())]
    for name in ("correlation", "linear", "specific", "cos"):
        one, other = (choose(recorded(part, features), name, texts)["layer"] for part in pair)
        torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(one.trust, other.trust, rtol=0, atol=0, equal_nan=True)


def test_layers_after_a_softmax_are_labelled_by_their_peaks_and_others_linearly() -> None:
    world = planted(200, neurons=6)
    recording = recorded(DenseActivations(world.activations), world.features)
    layers = [Layer("layer"), Layer("layer", "softmax"), Layer("layer", "sigmoid")]
    several = MemoryRecording(recording._batches, [], "auto", layers)
    found = choose(several, "auto", world.texts)
    assert {key: one.similarity for key, one in found.items()} == {
        "layer": "linear",
        "layer:softmax": "peak",
        "layer:sigmoid": "linear",
    }
    assert list(choose(several, "cos", world.texts, layers=["layer:softmax"])) == ["layer:softmax"]


def test_labels_by_moments_need_nothing_else() -> None:
    world = planted(300, neurons=10)
    recording = recorded(DenseActivations(world.activations), world.features)
    wanted = choose(recording, Linear, world.texts)["layer"]
    found = choose_by_moments(Linear(), moments_of(recording, "layer"), world.texts)
    torch.testing.assert_close(found.trust, wanted.trust, rtol=0, atol=0)
    assert torch.equal(found.words.concepts, wanted.words.concepts)


def test_peaks_are_labelled_by_the_moments_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    world = planted(300, neurons=10)
    recording = in_batches(DenseActivations(world.activations), world.features, 50)
    alone = scored(Peak(), list(recording.shards("layer")), world.texts)
    moments_of(recording, "layer")
    monkeypatch.setattr(LayerSums, "add", lambda *_: pytest.fail("moments are summed up again"))
    found = choose(recording, "peak", world.texts)["layer"]
    torch.testing.assert_close(found.scores, alone, rtol=0, atol=1e-5)
    assert torch.equal(similarities_of(recording, "peak", world.texts)["layer"], found.scores)


def test_words_of_a_neuron_come_with_their_weights() -> None:
    found = chosen(planted(300, neurons=10), "linear")
    for neuron in range(10):
        words = found.words_of(neuron)
        assert [concept for concept, _ in words] == [c for c in found.words.concepts[neuron].tolist() if c >= 0]
        assert all(weight > 0 for _, weight in words)


@pytest.mark.parametrize("name", ["linear", "soft_wpmi"])
def test_images_of_one_pair_of_folds_are_labelled_and_not_judged(name: str) -> None:
    keys = [key for key in map(str, range(400)) if int(folds_of([key])) < 2][:40]
    world = planted(40, neurons=6)
    recording = recorded(DenseActivations(world.activations), world.features)
    recording._batches[0].keys[:] = keys
    alone = MemoryRecording(recording._batches, [], "auto")
    found = choose(alone, name, world.texts)["layer"]
    assert bool((found.words.concepts[:, 0] >= 0).all())
    assert found.trust.images == 40
    if name == "soft_wpmi":
        assert found.left_out == []
        assert bool(found.trust.r.isnan().all())
    else:
        assert [part.folds for part in found.left_out] == [[0], [1]]


@pytest.mark.parametrize("name", sorted(SIMILARITIES))
def test_one_image_and_dead_neurons_are_no_error(name: str) -> None:
    world = planted(300, neurons=6)
    values = world.activations.clone()
    values[:, 2] = 0
    found = choose(recorded(DenseActivations(values), world.features), name, world.texts)["layer"]
    assert found.words.concepts[2, 0] == -1
    assert found.words_of(2) == []
    assert found.trust.rank[2] == 0
    if name != "jsd":
        single = choose(recorded(DenseActivations(values[:1] + 1), world.features[:1]), name, world.texts)["layer"]
        assert bool(single.trust.r.isnan().all())


def test_embeddings_of_different_width_are_refused() -> None:
    world = planted(50)
    with pytest.raises(ValueError, match="clip must embed images and concepts alike, got 48 numbers for each image"):
        choose(recorded(DenseActivations(world.activations), world.features), "linear", world.texts[:, :5])
