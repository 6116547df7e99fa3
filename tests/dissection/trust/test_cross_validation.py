"""Cross-validation of labels against a definition that chooses anew for every fold, over tables in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from lwta.dissection.moments.moments import Moments, Statistics
from lwta.dissection.similarity import Correlation, Cos, FromMoments, Linear, Specific, Words
from lwta.dissection.trust.cross_validation import LEAST_IMAGES, CrossValidated, HeldOut, Trust, cross_validated
from tests.support.trust import (
    Definition,
    contrast_signals,
    correlation_table,
    cross_validation,
    dense_statistics,
    moments_by_fold,
    planted,
    predictions,
    within_folds,
)


class Case(NamedTuple):
    """Images of some folds, words, and neurons of many kinds."""

    activations: Tensor
    features: Tensor
    texts: Tensor
    folds: Tensor

    @property
    def moments(self) -> Moments:
        return moments_by_fold(self.activations, self.features, self.folds)


def case(images: int = 400, folds: Sequence[int] = range(8)) -> Case:
    """Planted neurons, and one that is noise, one dead, one constant, one far from 0, one that is rare."""
    world = planted(images, neurons=14, words=40, width=24)
    values = world.activations
    values[:, 0] = torch.randn(images)
    values[:, 1] = 0
    values[:, 2] = 1.5
    values[:, 3] += 1000
    values[:, 4] *= torch.arange(images) % 40 == 4
    of_image = torch.tensor(folds)[torch.randint(len(folds), (images,))]
    return Case(values, world.features, world.texts, of_image)


def by_library(similarity: FromMoments, one: Case, groups: Sequence[Sequence[int]] | None = None) -> CrossValidated:
    moments = one.moments
    return cross_validated(
        moments, lambda folds: similarity.paths(moments.statistics(folds), one.texts), one.texts, groups
    )


def by_definition(similarity: FromMoments, one: Case, groups: Sequence[Sequence[int]] | None = None) -> Definition:
    def explain(images: Tensor) -> list[Words]:
        return similarity.paths(dense_statistics(one.activations[images], one.features[images]), one.texts)

    return cross_validation(one.activations, one.features, one.texts, one.folds, explain, groups)


def assert_same(found: Trust, wanted: Definition) -> None:
    torch.testing.assert_close(found.r, wanted.r, rtol=0, atol=1e-5, equal_nan=True)
    assert found.rank.tolist() == wanted.rank.tolist()
    torch.testing.assert_close(found.null_percentile, wanted.null_percentile, rtol=0, atol=1e-3, equal_nan=True)
    torch.testing.assert_close(found.of_others, wanted.of_others, rtol=0, atol=1e-5, equal_nan=True)


LABELERS: list[Callable[[], FromMoments]] = [Correlation, Cos, Specific, Linear]


@pytest.mark.parametrize("make", LABELERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_figures_are_those_of_choosing_anew_for_every_fold(make: Callable[[], FromMoments], seed: int) -> None:
    torch.manual_seed(seed)
    one = case()
    found, wanted = by_library(make(), one), by_definition(make(), one)
    assert found.trust.images == 400
    assert_same(found.trust, wanted)
    assert bool(found.trust.r.isnan()[1:3].all())
    assert found.trust.rank[1:3].tolist() == [0, 0]
    final = make().paths(one.moments.statistics(), one.texts)
    for neuron, length in enumerate(wanted.lengths.tolist()):  # all images choose the words, as many as were found best
        row = final[length].concepts[neuron]
        width = len(row)
        assert found.words.concepts[neuron, :width].tolist() == row.tolist()
        assert bool((found.words.concepts[neuron, width:] == -1).all())
    for part in found.left_out:
        assert part.words.concepts.shape == found.words.concepts.shape
    assert [part.folds for part in found.left_out] == [[fold] for fold in range(8)]


def test_folds_that_are_left_out_together_are_judged_by_the_words_of_the_others() -> None:
    groups = [[0, 1], [2, 3], [4, 5, 7], [6]]
    one = case()
    for make in (Correlation, Linear):
        found = by_library(make(), one, groups)
        assert_same(found.trust, by_definition(make(), one, groups))
        assert [part.folds for part in found.left_out] == groups


def test_groups_may_name_folds_without_images() -> None:
    one = case(folds=[0, 2, 3, 6])
    found = by_library(Correlation(), one, [[0, 1], [2, 3], [4, 5], [6, 7]])
    assert [part.folds for part in found.left_out] == [[0], [2, 3], [6]]
    assert_same(found.trust, by_definition(Correlation(), one, [[0], [2, 3], [6]]))


def test_all_correlations_are_those_of_predictions_with_neurons() -> None:
    one = case()
    weights = torch.tensor([[1.0, 0.5]] * 5 + [[2.0, 0.0]] * 8 + [[0.0, 0.0]]).double()
    words = Words(torch.tensor([[3, 8]] * 5 + [[5, -1]] * 8 + [[-1, -1]]), weights)
    moments, signals = one.moments, contrast_signals(one.features, one.texts)
    held_out, predicted = HeldOut(14), torch.zeros(400, 14).double()
    for fold in range(8):
        known = moments.statistics([other for other in range(8) if other != fold])
        held_out.add(
            known, [moments.statistics([fold])], words.directions(known, (one.texts - one.texts.mean(0)).double())
        )
        mine = one.folds == fold
        predicted[mine] = predictions(words, signals, ~mine)[mine]
    p, a = within_folds(predicted, one.folds), within_folds(one.activations, one.folds)
    wanted = (p.T @ a) / (p.norm(dim=0)[:, None] * a.norm(dim=0))
    wanted[:, 1:3] = torch.nan
    found = held_out.matrix()
    fit = ~wanted.isnan()
    torch.testing.assert_close(found.double()[fit], wanted[fit], rtol=0, atol=1e-5)
    assert not bool(found[:, 1:3].isfinite().any())
    assert not bool(found[13].isfinite().any())


def test_a_neuron_of_which_nothing_is_known_is_not_judged() -> None:
    one = case()
    found = by_library(Linear(), one)._replace(left_out=[])
    for neuron in (1, 2):
        figures = found.trust.of(neuron)
        assert figures["rank"] is None
        assert all(figures[name] != figures[name] for name in ("r", "r_low", "r_high", "null_percentile"))
    assert not bool(found.trust.told_apart[1:3].any())


def test_neurons_that_are_the_same_have_the_same_figures() -> None:
    """No rounding puts one before the other: a word predicts none of them better."""
    world = planted(500, neurons=9)
    values = world.activations.repeat(1, 5) * torch.tensor([1.0, 3.0, 0.37, 1e-3, 7777.0]).repeat_interleave(9)
    folds = torch.arange(500) % 8
    one = Case(values, world.features, world.texts, folds)
    trust = by_library(Correlation(), one).trust
    for column in (trust.r, trust.low, trust.null_percentile):
        torch.testing.assert_close(column.view(5, 9), column[:9].expand(5, 9), rtol=1e-4, atol=1e-4)
    assert trust.rank.tolist() == [1] * 45


@pytest.mark.parametrize("images", [2, LEAST_IMAGES - 1])
def test_too_few_images_judge_nothing(images: int) -> None:
    one = case(images)
    found = by_library(Correlation(), one)
    assert found.trust.images == images
    assert bool(found.trust.r.isnan().all())
    assert not found.trust.rank.any()
    assert found.left_out == []
    assert found.words.concepts.shape == (14, 1)


def test_just_enough_images_are_judged() -> None:
    one = case(LEAST_IMAGES)
    found = by_library(Correlation(), one)
    assert bool((found.trust.rank[5:] > 0).all())
    assert_same(found.trust, by_definition(Correlation(), one))


def test_one_fold_judges_nothing() -> None:
    for groups in (None, [[0, 1], [2, 3]]):
        found = by_library(Correlation(), case(folds=[3]), groups)
        assert bool(found.trust.r.isnan().all())
        assert found.left_out == []
    found = by_library(Correlation(), case(folds=[2, 3]), [[0, 1], [2, 3]])  # two, that are never apart
    assert bool(found.trust.r.isnan().all())
    assert found.left_out == []


def test_two_folds_take_turns() -> None:
    one = case(folds=[1, 6])
    found = by_library(Linear(), one)
    assert_same(found.trust, by_definition(Linear(), one))
    assert bool((found.trust.low <= found.trust.high)[3:].all())


def test_folds_of_one_image_add_nothing() -> None:
    one = case(200)
    folds = torch.where(torch.arange(200) < 3, torch.arange(200), 3 + one.folds % 5)
    found = by_library(Correlation(), one._replace(folds=folds))
    assert_same(found.trust, by_definition(Correlation(), one._replace(folds=folds)))


def test_a_single_neuron_is_told_apart_from_nobody() -> None:
    one = case()
    trust = by_library(Linear(), one._replace(activations=one.activations[:, 5:6])).trust
    assert trust.rank.tolist() == [1]
    assert float(trust.r) > 0.4
    assert float(trust.null_percentile) > 99
    assert bool(trust.of_others.isnan().all())


CHANCE_LABELERS = [Correlation, Specific, Linear]


@pytest.mark.parametrize("make", CHANCE_LABELERS)
def test_no_word_fits_by_chance_on_images_left_out(make: Callable[[], FromMoments]) -> None:
    """Of 3,000 words the best by chance has r near 0.2 on the images that chose it, and near 0 on others."""
    images, neurons = 400, 200
    features = torch.nn.functional.normalize(torch.randn(images, 100), dim=1)
    texts = torch.nn.functional.normalize(torch.randn(3000, 100), dim=1)
    one = Case(torch.randn(images, neurons), features, texts, torch.arange(images) % 8)
    found = by_library(make(), one)
    chosen = make().paths(dense_statistics(one.activations, features), texts)[-1]
    signals = contrast_signals(features, texts)
    by_choice = correlation_table(predictions(chosen, signals, torch.ones(images).bool()), one.activations).diagonal()
    assert float(by_choice.mean()) > 0.15
    mean = float(found.trust.r.mean()) * images**0.5
    assert abs(mean) < (1.2 if make is Linear else 0.45)  # the number of words is chosen on the images left out
    # of 200 neurons 10 are above the 95th percentile of chance: more than 20 would be once in 1,000 times
    assert int((found.trust.null_percentile > 95).sum()) <= 20


def test_a_word_that_fits_the_training_images_alone_predicts_nothing() -> None:
    """It follows the neuron on all folds but one, where another word does."""
    images = 800
    features = torch.nn.functional.normalize(torch.randn(images, 20), dim=1)
    texts, folds = torch.eye(20)[:6], torch.arange(images) % 8
    values = torch.where(folds == 5, -features[:, 0], features[:, 0])[:, None] + 0.01 * torch.randn(images, 3)
    moments = moments_by_fold(values, features, folds)
    held_out = HeldOut(3)
    known = moments.statistics([fold for fold in range(8) if fold != 5])
    words = Correlation().paths(known, texts)[0]
    assert words.concepts.flatten().tolist() == [0, 0, 0]
    held_out.add(known, [moments.statistics([5])], words.directions(known, (texts - texts.mean(0)).double()))
    assert float(held_out.own().max()) < -0.8


def test_explanations_grow_only_where_words_add_to_what_is_predicted() -> None:
    """The shortest to which no longer one adds enough for each further word."""
    world = planted(600, neurons=6)
    folds = torch.arange(600) % 8
    S = contrast_signals(world.features, world.texts)
    S = (S - S.mean(0)) / S.std(0)
    values = torch.stack([S[:, 0], S[:, 1] + S[:, 2], S[:, 3]], 1).float() + 0.1 * torch.randn(600, 3)
    moments = moments_by_fold(values, world.features, folds)

    def explain(_: Sequence[int]) -> list[Words]:
        most = torch.tensor([[0, 40, 41], [1, 2, 42], [3, 43, 44]])
        weights = torch.tensor([[1.0, 1e-4, 1e-4], [1, 1, 1e-4], [1, 1, 1]]).double()
        found = []
        for k in (1, 2, 3):
            keep = torch.arange(3) < k
            found.append(Words(most[:, :k], weights.masked_fill(~keep, 0)[:, :k]))
        return found

    judged = cross_validated(moments, explain, world.texts)
    assert judged.words.concepts.tolist() == [[0, -1], [1, 2], [3, -1]]
    for part in judged.left_out:
        assert part.words.concepts.tolist() == judged.words.concepts.tolist()


def signal_and_neurons(r: float, images: int, neurons: int) -> tuple[Tensor, Tensor]:
    """A signal, and neurons that each have this correlation with it."""
    signal = torch.randn(images)
    return signal, r * signal[:, None] + (1 - r * r) ** 0.5 * torch.randn(images, neurons)


@pytest.mark.parametrize(("r", "images"), [(0.0, 400), (0.3, 400), (0.7, 400), (0.9, 1600), (0.3, 64)])
def test_intervals_hold_the_correlation_of_the_population_as_often_as_they_say(r: float, images: int) -> None:
    """Of 400 drawn data sets: with 95 % wanted, .88 or .99 would come about by chance less than once in 10⁵ times."""
    held = []
    for _ in range(20):
        signal, values = signal_and_neurons(r, images, 20)
        features = torch.stack([signal, torch.randn(images)], 1).mul(0.1).clamp(-1, 1)
        texts = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        moments = moments_by_fold(values, features, torch.randint(8, (images,)), size=images)
        label = Words(torch.zeros(20, 1, dtype=torch.int64), torch.ones(20, 1).double())
        trust = cross_validated(moments, lambda _, label=label: [label], texts).trust  # type: ignore[misc]
        assert bool((trust.low <= trust.r).all() & (trust.r <= trust.high).all())
        held.append((trust.low <= r) & (r <= trust.high))
    share = float(torch.cat(held).double().mean())
    assert 0.88 < share < 0.99, share


@pytest.mark.parametrize(("images", "width"), [(100, 0.33), (1600, 0.076)])
def test_intervals_are_narrower_with_more_images(images: int, width: float) -> None:
    """Twice Student's quantile of 7 degrees of freedom times the deviation of r = 0.5."""
    signal, values = signal_and_neurons(0.5, images, 50)
    features = torch.stack([signal, torch.randn(images)], 1).mul(0.1).clamp(-1, 1)
    one = Case(values, features, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.arange(images) % 8)
    trust = by_library(Correlation(), one).trust
    assert float((trust.high - trust.low).mean()) == pytest.approx(width, rel=0.2)


def test_a_prediction_of_nothing_is_undefined_and_not_zero() -> None:
    one = case()
    nothing = Words(torch.full((14, 1), -1), torch.zeros(14, 1).double())
    found = cross_validated(one.moments, lambda _: [nothing], one.texts)
    assert bool(found.trust.r.isnan().all())
    assert not found.trust.rank.any()


def test_statistics_for_directions_are_those_of_the_training_images() -> None:
    """Predictions of folds are brought to one unit, so that no fold counts more than others."""
    one = case()
    asked: list[Statistics] = []
    moments = one.moments

    def explain(folds: Sequence[int]) -> list[Words]:
        asked.append(moments.statistics(folds))
        return Correlation().paths(asked[-1], one.texts)

    cross_validated(moments, explain, one.texts)
    counts = moments.counts
    assert [statistics.images for statistics in asked] == [400, *(400 - counts).tolist()]
