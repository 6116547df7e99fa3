"""Judges of labels against definitions by plain loops, and the sanity tests of arXiv 2506.05774 on each of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from random import Random
from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lwta.dissection.scoring import judges
from lwta.dissection.scoring.judges import (
    auprc,
    concept_probabilities,
    f1,
    iou,
    judge_probabilities,
    pearson,
    top_images,
)
from tests.support.worlds import embedded

Judge = Callable[[Tensor, Tensor], Tensor]
JUDGES: list[Judge] = [pearson, auprc, f1, iou]
NAN = float("nan")

# Few different values, so that there are ties; the neuron is active, inactive and negative.
VALUES = st.integers(-2, 3).map(float)
PROBABILITIES = st.integers(0, 4).map(lambda i: i / 4)
COLUMNS = st.lists(st.tuples(VALUES, PROBABILITIES), min_size=1, max_size=9)


# Definitions, of one neuron


def possible_tops(values: list[float], share: float) -> list[set[int]]:
    """Sets of top images, one for each way in which chance may decide ties; less images without activity."""
    places = math.ceil(round(share * len(values), 6))
    images = set(range(len(values)))
    sets = []
    for chosen in combinations(sorted(images), places):
        others = images - set(chosen)
        if not others or min(values[i] for i in chosen) >= max(values[i] for i in others):
            sets.append({i for i in chosen if values[i] != 0 and values[i] > min(values)})
    return sets


def weights_by_chance(values: list[float], share: float) -> list[float]:
    sets = possible_tops(values, share)
    return [fmean(float(i in chosen) for chosen in sets) for i in range(len(values))]


def average_precision(top: set[int], signal: list[float]) -> float:
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(signal), reverse=True):
        found = [i for i in range(len(signal)) if signal[i] >= threshold]
        right = sum(i in top for i in found)
        recall, precision = right / len(top), right / len(found)
        total += (recall - recall_before) * precision
        recall_before = recall
    return total


def auprc_by_chance(values: list[float], signal: list[float], share: float) -> float:
    sets = possible_tops(values, share)
    return fmean(average_precision(top, signal) for top in sets) if sets[0] else NAN


def f1_by_chance(values: list[float], p: list[float], share: float) -> float:
    sets = possible_tops(values, share)
    return fmean(2 * sum(p[i] for i in top) / (len(top) + sum(p)) for top in sets) if sets[0] else NAN


def iou_of_weights(values: list[float], p: list[float], share: float) -> float:
    b = weights_by_chance(values, share)
    shared = sum(b[i] * p[i] for i in range(len(b)))
    return shared / (sum(b) + sum(p) - shared) if sum(b) else NAN


def pearson_by_sums(values: list[float], signal: list[float]) -> float:
    if len(set(values)) == 1 or len(set(signal)) == 1:
        return NAN
    a, s = fmean(values), fmean(signal)
    covariance = math.fsum((x - a) * (y - s) for x, y in zip(values, signal, strict=True))
    return covariance / math.sqrt(math.fsum((x - a) ** 2 for x in values) * math.fsum((y - s) ** 2 for y in signal))


def column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def same(found: Tensor, expected: float) -> bool:
    return float(found) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@settings(max_examples=150, deadline=None)
@given(COLUMNS, st.sampled_from([0.05, 0.2, 0.4, 0.75, 1.0]))
def test_judges_are_their_definitions(pairs: list[tuple[float, float]], share: float) -> None:
    values, p = [a for a, _ in pairs], [b for _, b in pairs]
    activations, signals = column(values), column(p)
    assert top_images(activations, share)[:, 0].tolist() == pytest.approx(weights_by_chance(values, share), abs=1e-12)
    assert same(pearson(activations, signals), pearson_by_sums(values, p))
    assert same(auprc(activations, signals, share), auprc_by_chance(values, p, share))
    assert same(f1(activations, signals, share), f1_by_chance(values, p, share))
    assert same(iou(activations, signals, share), iou_of_weights(values, p, share))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_neuron_is_judged_by_itself(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr(judges, "_CELLS", 90)  # three neurons at a time
    activations, p = torch.randn(30, 10).relu().to(dtype), torch.rand(30, 10)
    p[:15] = p[15:]
    assert top_images(activations).shape == (30, 10)
    for i in range(10):
        values, probabilities = activations[:, i].tolist(), p[:, i].tolist()
        assert same(pearson(activations, p)[i], pearson_by_sums(values, probabilities))
        assert same(auprc(activations, p)[i], auprc_by_chance(values, probabilities, 0.05))
        assert same(f1(activations, p)[i], f1_by_chance(values, probabilities, 0.05))
        assert same(iou(activations, p)[i], iou_of_weights(values, probabilities, 0.05))


@settings(max_examples=60, deadline=None)
@given(COLUMNS, st.randoms(use_true_random=False), st.floats(1e-20, 1e20))
def test_order_of_images_and_scale_of_activations_are_of_no_account(
    pairs: list[tuple[float, float]], random: Random, scale: float
) -> None:
    shuffled = pairs.copy()
    random.shuffle(shuffled)
    one, other = torch.tensor(pairs, dtype=torch.float64), torch.tensor(shuffled, dtype=torch.float64)
    for figure in JUDGES:
        before = figure(one[:, :1], one[:, 1:])
        after = figure(scale * other[:, :1], other[:, 1:])
        torch.testing.assert_close(before, after, rtol=0, atol=1e-12, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(COLUMNS, st.sampled_from([torch.exp, torch.atan, lambda s: s**3 - 7, lambda s: 1e6 * s]))
def test_precision_depends_on_the_order_of_the_signal_alone(
    pairs: list[tuple[float, float]], rising: Callable[[Tensor], Tensor]
) -> None:
    table = torch.tensor(pairs, dtype=torch.float64)
    activations, signals = table[:, :1], table[:, 1:]
    assert torch.equal(auprc(activations, rising(signals)).nan_to_num(), auprc(activations, signals).nan_to_num())


def test_order_of_many_images_is_of_no_account() -> None:
    activations, p = torch.randint(4, (500, 6)).float(), torch.randint(5, (500, 6)) / 4
    order = torch.randperm(500)
    assert torch.equal(top_images(activations)[order], top_images(activations[order]))
    assert torch.equal(auprc(activations, p), auprc(activations[order], p[order]))


# Ties, constants, nothing


def test_ties_share_the_places_that_are_left() -> None:
    values = column([9.0, 4.0, 4.0, 4.0, 1.0, 0.0])
    assert top_images(values, 0.5)[:, 0].tolist() == pytest.approx([1, 2 / 3, 2 / 3, 2 / 3, 0, 0])


def test_images_without_activity_are_no_top_images() -> None:
    rare = column([0.0] * 18 + [1.0, 0.0])
    signed = column([0.0] * 18 + [1.0, -1.0])  # the least is not 0, but 0 is still no activity
    below = column([-3.0, -3.0, -2.0, -1.0])
    assert top_images(rare, 0.2).sum() == top_images(rare, 0.2)[18] == 1
    assert torch.equal(top_images(signed, 0.2), top_images(rare, 0.2))
    assert top_images(below, 1.0)[:, 0].tolist() == [0, 0, 1, 1]


def test_the_share_is_rounded_up_as_it_is_written() -> None:
    assert float(top_images(torch.arange(100.0)[:, None], 0.07).sum()) == 7  # 0.07 × 100 is above 7 in floating point
    assert float(top_images(torch.arange(101.0)[:, None], 0.07).sum()) == 8


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
@pytest.mark.parametrize("images", [3, 21, 23])
def test_a_constant_neuron_is_not_judged(value: float, images: int) -> None:
    activations = torch.full((images, 2), value, dtype=torch.float64)  # the mean of three times 0.1 is not 0.1
    activations[:2, 1] = 5
    assert top_images(activations)[:, 0].tolist() == [0] * images
    for figure in JUDGES:
        assert figure(activations, torch.rand(images, 2)).isnan().tolist() == [True, False]


def test_a_constant_signal_finds_as_many_as_chance() -> None:
    activations, signals = torch.rand(40, 1), torch.full((40, 1), 0.1)
    assert pearson(activations, signals).isnan().all()
    assert same(auprc(activations, signals), 2 / 40)


def test_one_image_judges_nothing() -> None:
    judged = judge_probabilities(torch.ones(1, 2), torch.tensor([[1, NAN]]))
    assert torch.stack(judged).isnan().all()


def test_no_image_judges_nothing() -> None:
    judged = judge_probabilities(torch.ones(0, 2), torch.ones(0, 2))
    assert torch.stack(judged).shape == (4, 2)
    assert torch.stack(judged).isnan().all()
    assert top_images(torch.ones(0, 2)).shape == (0, 2)


def test_no_neuron_is_judged() -> None:
    judged = judge_probabilities(torch.ones(5, 0), torch.ones(5, 0))
    assert torch.stack(judged).shape == (4, 0)


def test_numbers_that_are_missing_leave_the_other_neurons_alone() -> None:
    activations, p = torch.rand(30, 4), torch.rand(30, 4)
    whole = [figure(activations, p) for figure in JUDGES]
    activations[7, 1], p[:, 2] = NAN, NAN
    for figure, before in zip(JUDGES, whole, strict=True):
        after = figure(activations, p)
        assert after.isnan().tolist() == [False, True, True, False]
        assert torch.equal(after[[0, 3]], before[[0, 3]])
    assert top_images(activations).isnan().any(0).tolist() == [False, True, False, False]


@pytest.mark.parametrize("offset", [0.1, 1e4])
def test_correlation_is_exact_far_from_zero(offset: float) -> None:
    activations = torch.randn(300, 1) * 1e-3 + offset
    expected = pearson_by_sums(activations[:, 0].tolist(), [-a for a in activations[:, 0].tolist()])
    assert expected == pytest.approx(-1)
    assert float(pearson(activations, -activations)) == pytest.approx(-1, abs=1e-12)


def test_correlation_is_within_its_bounds() -> None:
    activations = torch.randn(50, 1000)  # without a bound a quarter of them exceed 1, by rounding
    assert float(pearson(activations, 3 * activations).max()) == 1
    assert float(pearson(activations, -activations).min()) == -1


# Probabilities of concepts


def test_probabilities_are_a_softmax_over_all_concepts() -> None:
    features, texts = embedded(7, 5), embedded(11, 5)
    labels = torch.tensor([3, -1, 10, 3])
    found = concept_probabilities(features, texts, labels)
    assert found.dtype == torch.float32
    for n in range(7):
        products = [100 * math.fsum((features[n].double() * text.double()).tolist()) for text in texts]
        total = math.fsum(math.exp(product - max(products)) for product in products)
        for i, label in enumerate(labels.tolist()):
            expected = math.exp(products[label] - max(products)) / total if label >= 0 else NAN
            assert float(found[n, i]) == pytest.approx(expected, rel=1e-4, nan_ok=True)


@pytest.mark.parametrize("cells", [1, 40, 200])
def test_probabilities_do_not_depend_on_how_many_images_are_taken_at_once(
    monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    features, texts, labels = embedded(30, 8), embedded(20, 8), torch.arange(-1, 20)
    whole = concept_probabilities(features, texts, labels)
    monkeypatch.setattr(judges, "_CELLS", cells)
    torch.testing.assert_close(concept_probabilities(features, texts, labels), whole, rtol=1e-4, atol=0, equal_nan=True)


def test_probabilities_of_large_products_are_finite() -> None:
    found = concept_probabilities(50 * torch.eye(2), torch.eye(2), torch.tensor([0, 1]))
    assert torch.equal(found, torch.eye(2))


def test_without_concepts_nobody_has_a_probability() -> None:
    found = concept_probabilities(embedded(3, 4), torch.empty(0, 4), torch.tensor([-1, -1]))
    assert found.shape == (3, 2)
    assert found.isnan().all()


def test_right_labels_are_judged_better_than_wrong_ones() -> None:
    texts = embedded(50, 16)
    features = torch.nn.functional.normalize(texts.repeat(20, 1) + 0.2 * torch.randn(1000, 16))
    activations, labels = (features @ texts.T - 0.5).relu(), torch.arange(50)
    probabilities = concept_probabilities(features, texts, labels)
    right = judge_probabilities(activations, probabilities)
    wrong = judge_probabilities(activations, concept_probabilities(features, texts, labels.roll(1)))
    for one, other in zip(right, wrong, strict=True):
        assert one.dtype == torch.float64
        assert float(one.mean()) > float(other.mean()) + 0.3
    expected = [figure(activations, probabilities) for figure in (auprc, f1, iou, pearson)]
    assert torch.equal(torch.stack(right), torch.stack(expected))


# Sanity tests


FREQUENCIES = [0.499, 0.1, 0.01, 0.001]
IMAGES, DRAWS = 20_000, 20
MARGIN = 0.001  # the paper's


def concept(frequency: float) -> Tensor:
    """Images that show the concept, (n, 1): the neuron's activation too."""
    shown = torch.zeros(IMAGES, 1)
    shown[: round(frequency * IMAGES)] = 1
    return shown


def missing_labels(shown: Tensor) -> Tensor:
    """Labels of a concept too narrow, (n, draws): each 1 is dropped with probability ½."""
    return shown * (torch.rand(IMAGES, DRAWS) < 0.5)


def extra_labels(shown: Tensor) -> Tensor:
    """Labels of a concept too broad, (n, draws): as many ones again, at random among the zeros."""
    chances = torch.rand(IMAGES, DRAWS) + shown  # those of the ones are above all others
    return (chances >= chances.topk(2 * int(shown.sum()), dim=0).values[-1]).float()


def fall(figure: Judge, corrupt: Callable[[Tensor], Tensor], frequency: float) -> float:
    """By how much the figure of corrupted labels is below that of the true ones, on average over draws."""
    shown = concept(frequency)
    labels = corrupt(shown)
    return float(figure(shown, shown)) - float(figure(shown.expand(-1, DRAWS), labels).mean())


@pytest.mark.parametrize("frequency", FREQUENCIES)
def test_corrupted_labels_are_what_they_should_be(frequency: float) -> None:
    shown = concept(frequency)
    missing, extra = missing_labels(shown), extra_labels(shown)
    assert (missing <= shown).all()
    assert float(missing.sum() / shown.sum()) == pytest.approx(DRAWS / 2, rel=0.1)
    assert (extra >= shown).all()
    assert torch.equal(extra.sum(0), (2 * shown.sum()).expand(DRAWS))


@pytest.mark.parametrize("frequency", FREQUENCIES)
@pytest.mark.parametrize("corrupt", [missing_labels, extra_labels])
@pytest.mark.parametrize("figure", JUDGES)
def test_labels_too_narrow_and_too_broad_are_judged_worse(
    figure: Judge, corrupt: Callable[[Tensor], Tensor], frequency: float
) -> None:
    assert (
        fall(figure, corrupt, frequency) > 5 * MARGIN
    )  # the least is that of iou, missing labels, .499: from .1002 to .0911


def auc(activations: Tensor, signals: Tensor) -> Tensor:
    """Probability that the signal orders a top image and another one rightly, (D,); ties count a half. Both binary."""
    top = top_images(activations, 0.05)
    found, alarms = (top * signals).sum(0) / top.sum(0), ((1 - top) * signals).sum(0) / (1 - top).sum(0)
    return (1 + found - alarms) / 2


def test_area_under_the_roc_curve_misses_labels_too_broad() -> None:
    assert float(auc(concept(0.001), concept(0.001))) == 1
    assert fall(auc, extra_labels, 0.001) < MARGIN
    assert fall(auc, missing_labels, 0.001) > MARGIN


# Arguments


TABLE, LABELS = torch.rand(4, 2), torch.tensor([0, 1])
REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    (
        lambda: pearson(TABLE, TABLE[:3]),
        ValueError,
        r"signals must have the shape of activations, \(4, 2\), got .*\(3,",
    ),
    (lambda: auprc(TABLE[0], TABLE[0]), ValueError, r"activations must have two axes, got shape \(2,\)"),
    (lambda: auprc(TABLE.long(), TABLE), TypeError, "activations must be a tensor of float32.*got .*int64"),
    (lambda: f1(TABLE, 2 + TABLE * 0), ValueError, "probabilities must be within 0…1, got 2.0"),
    (lambda: iou(TABLE, TABLE - 1), ValueError, "probabilities must be within 0…1, got -0"),
    (lambda: f1(TABLE, TABLE[:, :1]), ValueError, "probabilities must have the shape of activations"),
    (lambda: top_images(TABLE, 0), ValueError, r"share must be within \(0, 1\], got 0"),
    (lambda: f1(TABLE, TABLE, 1.5), ValueError, r"share must be within \(0, 1\], got 1.5"),
    (lambda: auprc(TABLE, TABLE, NAN), ValueError, r"share must be within \(0, 1\], got nan"),
    (
        lambda: concept_probabilities(TABLE, torch.eye(3), LABELS),
        ValueError,
        r"texts .*features, 2, got shape \(3, 3\)",
    ),
    (lambda: concept_probabilities(TABLE, torch.eye(2), LABELS + 1), ValueError, "labels must be −1…1 .*got 2"),
    (lambda: concept_probabilities(TABLE, torch.eye(2), LABELS - 2), ValueError, "labels must be −1…1 .*got -2"),
    (
        lambda: concept_probabilities(TABLE, torch.eye(2), LABELS.float()),
        TypeError,
        "labels must be .*int64, got .*float",
    ),
    (lambda: concept_probabilities(TABLE, torch.eye(2), [0, 1]), TypeError, "labels .*got list"),  # type: ignore[arg-type]
    (
        lambda: concept_probabilities(TABLE, torch.eye(2), LABELS[None]),
        ValueError,
        r"labels must have one axis, got .*1, 2",
    ),
    (lambda: judge_probabilities(TABLE[:3], TABLE), ValueError, r"activations, \(3, 2\), got shape \(4, 2\)"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_arguments_that_do_not_fit_are_refused(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()
