"""Moments and statistics against sums over dense float64 tables, whatever the shards, their order and their merges."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lwta import Winners
from lwta.dissection.moments.moments import Moments
from lwta.dissection.moments.sums import LayerSums, ProbeSums, parts_of, rows_of
from lwta.dissection.recording.activations import Activations, DenseActivations, pool_winners
from lwta.dissection.recording.recording import Shard
from tests.support.similarities import unit_rows
from tests.support.trust import add, dense_statistics, moments_by_fold

NAMES = [field.name for field in fields(Moments)]
FOLDS = 8
COMPETITORS = (1, 2, 3, 8, 12, 24)


def winners(images: int, competitors: int, positions: int = 1) -> Activations:
    """Wins in blocks of competitors, values of both signs, the last unit of the first block never winning."""
    shape = (images, positions, 48 // competitors)
    indices = torch.randint(competitors, shape, dtype=torch.uint8)
    if competitors > 1:
        indices[..., 0].clamp_(max=competitors - 2)
    return pool_winners(Winners(torch.randn(shape) + 0.5, indices, competitors), "mean")


def dense(images: int) -> DenseActivations:
    """Ordinary neurons, some of them awkward: cut off at 0, dead, constant, far from 0, rare, minute, huge."""
    values = torch.randn(images, 12)
    values[:, 1].relu_()
    values[:, 2] = 0
    values[:, 3] = 7.25
    values[:, 4] += 1000
    values[:, 5] = -1000 - values[:, 5].abs()
    values[:, 6] = (torch.arange(images) % 97 == 5).float()
    values[:, 7] *= 1e-12
    values[:, 8] *= 1e12
    values[:, 9] = 1 + 0.01 * values[:, 9]
    return DenseActivations(values)


def activations_of(kind: str, images: int) -> Activations:
    if kind == "dense":
        return dense(images)
    positions, competitors = (int(part) for part in kind.split(" of "))
    return winners(images, competitors, positions)


KINDS = ["dense", *(f"1 of {U}" for U in COMPETITORS), *(f"5 of {U}" for U in (2, 3, 24))]


def embeddings(images: int, width: int = 20) -> Tensor:
    """As alike as those of CLIP."""
    return torch.nn.functional.normalize(torch.randn(images, width) + 2 * torch.randn(width), dim=1)


def dense_moments(activations: Activations, features: Tensor, folds: Tensor, count: int = FOLDS) -> Moments:
    """Every sum in float64, image by image of a fold."""
    A, F = activations.dense().double(), features.double()
    rows = [folds == fold for fold in range(count)]
    return Moments(
        torch.stack([row.sum().double() for row in rows]),
        torch.stack([F[row].sum(0) for row in rows]),
        torch.stack([F[row].T @ F[row] for row in rows]),
        torch.stack([A[row].sum(0) for row in rows]),
        torch.stack([A[row].square().sum(0) for row in rows]),
        torch.stack([A[row].T @ F[row] for row in rows]),
    )


def same(found: Moments, wanted: Moments) -> bool:
    return all(torch.equal(getattr(found, name), getattr(wanted, name)) for name in NAMES)


def assert_near(found: Tensor, wanted: Tensor, what: str, error: float = 1e-5) -> None:
    """Rows, each of a neuron or of one dimension, differ by no more than a share of their length."""
    assert found.shape == wanted.shape, what
    assert found.dtype == torch.float64, what
    rows = (1, -1) if found.ndim < 2 else (found.shape[0], -1)
    distance = (found - wanted).reshape(rows).norm(dim=1)
    assert bool((distance <= error * wanted.reshape(rows).norm(dim=1)).all()), f"{what}: {distance}"


@pytest.mark.parametrize(
    ("kind", "size"), [*((kind, 64) for kind in KINDS), *((kind, size) for kind in KINDS[::4] for size in (1, 7, 1000))]
)
def test_moments_are_the_dense_sums_of_each_fold(kind: str, size: int) -> None:
    images = 300 if size >= 64 else 60
    activations, features = activations_of(kind, images), embeddings(images)
    folds = torch.randint(FOLDS, (images,))
    folds[folds == 3] = 4  # a fold without images
    found, wanted = (
        moments_by_fold(activations, features, folds, size=size),
        dense_moments(activations, features, folds),
    )
    assert torch.equal(found.counts, wanted.counts)
    assert found.folds == sorted(set(folds.tolist()))
    for name in NAMES:
        for fold in range(FOLDS):
            part, whole = getattr(found, name)[fold], getattr(wanted, name)[fold]
            assert_near(part, whole, f"{name} of fold {fold}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chosen", [None, [0], [5, 2, 6], [1, 1, 4]], ids=str)
def test_statistics_are_those_of_the_images_of_these_folds(kind: str, chosen: list[int] | None) -> None:
    activations, features = activations_of(kind, 600), embeddings(600)
    folds = torch.randint(FOLDS, (600,))
    found = moments_by_fold(activations, features, folds).statistics(chosen)
    rows = torch.cat([(folds == fold).nonzero().flatten() for fold in (range(FOLDS) if chosen is None else chosen)])
    wanted = dense_statistics(activations.dense()[rows], features[rows])
    assert found.images == wanted.images
    for name in ("mean", "covariance", "gram"):
        assert_near(getattr(found, name).flatten(), getattr(wanted, name).flatten(), name)
    for name in ("means", "deviations", "squares"):
        for neuron, (one, other) in enumerate(zip(getattr(found, name), getattr(wanted, name), strict=True)):
            scale = wanted.squares[neuron].div(wanted.images).sqrt()  # means may cancel
            assert abs(one - other) <= 1e-5 * (max(abs(other), scale) if name == "means" else abs(other)), name
    assert_near(found.products, wanted.products, "products")
    assert_near(found.cross, wanted.cross, "cross")


def test_dead_and_constant_neurons_have_neither_deviation_nor_covariance() -> None:
    values = dense(300).values
    found = moments_by_fold(values, embeddings(300), torch.randint(FOLDS, (300,))).statistics()
    constant = torch.zeros(12, dtype=torch.bool)
    constant[[2, 3]] = True
    assert torch.equal(found.deviations == 0, constant)
    assert torch.equal((found.cross == 0).all(1), constant)


@pytest.mark.parametrize("value", [1e-30, 0.1, 1 / 3, 1.0, 31.999, 32.1, 12345.678, 1e25])
def test_a_constant_neuron_is_constant_whatever_its_value(value: float) -> None:
    values = torch.full((777, 1), value)
    found = moments_by_fold(values, embeddings(777), torch.randint(FOLDS, (777,))).statistics()
    assert found.deviations.item() == 0


@pytest.mark.parametrize("mean", [0.0, 1.0, 1000.0, -1000.0, 30000.0])
def test_large_means_leave_covariances_exact(mean: float) -> None:
    features = embeddings(2000)
    values = mean + torch.randn(2000, 5) + 5 * features[:, :5]
    found = moments_by_fold(values, features, torch.randint(FOLDS, (2000,))).statistics()
    wanted = dense_statistics(values, features)
    assert_near(found.deviations, wanted.deviations, "deviations")
    assert_near(found.cross, wanted.cross, "cross")


def test_two_values_that_are_close_together_leave_covariances_exact() -> None:
    """Nothing averages their rounding out."""
    features = embeddings(2000)
    steps = torch.tensor([1e-1, 1e-2, 1e-3])
    values = 1.0001 + steps * (features[:, :3] > features[:, :3].mean(0))
    found = moments_by_fold(values, features, torch.randint(FOLDS, (2000,))).statistics()
    assert_near(found.cross, dense_statistics(values, features).cross, "cross")


@pytest.mark.parametrize("competitors", COMPETITORS)
def test_winners_have_the_moments_of_their_dense_matrix(competitors: int) -> None:
    activations, features, folds = winners(300, competitors), embeddings(300), torch.randint(FOLDS, (300,))
    assert not isinstance(rows_of(activations), Tensor)
    assert same(
        moments_by_fold(activations, features, folds), moments_by_fold(activations.dense(), features, folds, size=17)
    )


def test_winners_at_several_positions_have_the_moments_of_their_dense_matrix() -> None:
    features, folds = embeddings(60), torch.randint(FOLDS, (60,))
    for competitors in (2, 12):
        activations = winners(60, competitors, positions=4)
        of_dense = moments_by_fold(activations.dense(), features, folds)
        assert same(moments_by_fold(activations, features, folds), of_dense)
        assert same(moments_by_fold(activations, features, folds, size=1), of_dense)  # some with a winner a block


@settings(max_examples=25, deadline=None)
@given(data=st.data(), kind=st.sampled_from(KINDS), seed=st.integers(0, 2**16))
def test_moments_do_not_depend_on_shards_order_or_merges(data: st.DataObject, kind: str, seed: int) -> None:
    torch.manual_seed(seed)
    n = 24
    activations, features, folds = activations_of(kind, n), unit_rows(n, 6), torch.randint(4, (n,))
    if kind == "dense":
        activations = DenseActivations(activations.dense() * 10.0 ** torch.randint(-6, 6, (n, 1)))  # a wide range
    whole = moments_by_fold(activations, features, folds, count=4, size=n)

    images = data.draw(st.permutations(range(n)))
    cuts = sorted(data.draw(st.sets(st.integers(1, n - 1))))
    sums = [(ProbeSums(4), LayerSums(4)) for _ in range(data.draw(st.integers(1, 3)))]
    for place, (start, end) in enumerate(zip([0, *cuts], [*cuts, n], strict=True)):
        part = torch.tensor(images[start:end])
        mask = torch.zeros(n, dtype=torch.bool)
        mask[part] = True
        ordered = part.sort().values
        add(*sums[place % len(sums)], Shard(ordered, features[ordered], activations.select(mask)), folds)
    (probe, own), *others = data.draw(st.permutations(sums))
    for other_probe, other_own in others:
        probe.merge(other_probe)
        own.merge(other_own)
    assert same(Moments(**probe.totals(), **own.totals()), whole)


@settings(max_examples=15, deadline=None)
@given(kind=st.sampled_from(KINDS), cut=st.integers(0, 40), seed=st.integers(0, 2**16))
def test_sums_that_are_written_down_half_way_go_on_as_if_nothing_had_happened(kind: str, cut: int, seed: int) -> None:
    torch.manual_seed(seed)
    activations, features, folds = activations_of(kind, 40), unit_rows(40, 6), torch.randint(4, (40,))
    first = torch.arange(40) < cut
    probe, own = ProbeSums(4), LayerSums(4)
    shards = [Shard(mask.nonzero().flatten(), features[mask], activations.select(mask)) for mask in (first, ~first)]
    add(probe, own, shards[0], folds)
    states = probe.state(), own.state()
    before = [{name: value.clone() for name, value in state.items()} for state in states]
    totals = probe.totals(), own.totals()
    for _ in range(2):  # the state is neither changed by what is added later, nor by what is restored from it
        add(probe, own, shards[1], folds)
        for state, old in zip(states, before, strict=True):
            assert state.keys() == old.keys()
            assert all(torch.equal(value, old[name]) for name, value in state.items())
        probe, own = ProbeSums(4), LayerSums(4)
        probe.restore(states[0])
        own.restore(states[1])
        for found, old in zip((probe.totals(), own.totals()), totals, strict=True):
            assert all(torch.equal(found[name], old[name]) for name in old)
    add(probe, own, shards[1], folds)
    assert same(Moments(**probe.totals(), **own.totals()), moments_by_fold(activations, features, folds, count=4))


def test_merging_leaves_what_is_merged_as_it_was() -> None:
    activations, features, folds = winners(50, 3), unit_rows(50, 5), torch.randint(3, (50,))
    sums = [(ProbeSums(3), LayerSums(3)) for _ in range(2)]
    for one in sums:
        add(*one, Shard(torch.arange(50), features, activations), folds)
    before = [part.totals() for part in sums[1]]
    for one, other in zip(*sums, strict=True):
        one.merge(other)  # type: ignore[arg-type]
        one.merge(other)  # type: ignore[arg-type]
    for part, old in zip(sums[1], before, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in part.totals().items())
    for part, old in zip(sums[0], before, strict=True):
        assert all(torch.equal(value, 3 * old[name]) for name, value in part.totals().items())


def test_one_image_has_means_and_no_deviation() -> None:
    features, values = unit_rows(1, 4), torch.tensor([[2.0, 0.0]])
    moments = moments_by_fold(values, features, torch.tensor([5]))
    assert moments.folds == [5]
    found = moments.statistics()
    assert found.images == 1
    assert found.deviations.tolist() == [0, 0]
    torch.testing.assert_close(found.mean, features[0].double(), rtol=0, atol=1e-6)
    assert float(found.covariance.abs().max()) < 1e-12
    assert float(found.scales(torch.randn(3, 4)).max()) == 0


def test_fewer_images_than_folds_leave_folds_empty() -> None:
    features, values = unit_rows(3, 4), torch.randn(3, 2)
    moments = moments_by_fold(values, features, torch.tensor([7, 0, 4]))
    assert moments.folds == [0, 4, 7]
    assert moments.neurons == 2
    assert_near(moments.statistics().cross, dense_statistics(values, features).cross, "cross")
    for name in NAMES:
        assert not getattr(moments, name)[[1, 2, 3, 5, 6]].any()
    with pytest.raises(ValueError, match="there is nothing to label: no image was taken in"):
        moments.statistics([1, 2])


def test_deviations_of_signals_are_those_over_the_images() -> None:
    features = embeddings(500)
    features[:, 3] = 0.25  # a direction in which nothing varies
    statistics = moments_by_fold(torch.randn(500, 1), features, torch.randint(FOLDS, (500,))).statistics()
    directions = torch.randn(4, 2, 20, dtype=torch.float64)
    directions[0, 0] = torch.eye(20)[3]
    directions[0, 1] = 0
    wanted = (directions @ features.double().T).std(-1, correction=0)
    wanted[0] = 0
    torch.testing.assert_close(statistics.scales(directions), wanted, rtol=1e-5, atol=0)


def test_images_go_to_their_folds_by_rank() -> None:
    activations, features = winners(10, 2), unit_rows(10, 4)
    ranks = torch.randperm(10)
    folds = torch.arange(10) % 3
    parts = list(parts_of(Shard(ranks, features, activations), folds))
    assert [part.fold for part in parts] == [0, 1, 2]
    for fold, shard in parts:
        rows = (folds[ranks] == fold).nonzero().flatten()
        assert torch.equal(shard.ranks, ranks[rows])
        assert torch.equal(shard.features, features[rows])
        assert torch.equal(shard.activations.dense(), activations.dense()[rows])
    ((fold, whole),) = parts_of(Shard(ranks, features, activations), None)
    assert fold == 0
    assert whole.ranks is ranks
