"""The ceiling against a ridge regression over the images, refitted for every fold."""

from __future__ import annotations

import torch
from torch import Tensor

from lwta.dissection.similarity import Linear
from lwta.dissection.trust.ceiling import PENALTIES, ceiling, ridge
from lwta.dissection.trust.cross_validation import LEAST_IMAGES, cross_validated
from tests.support.trust import dense_statistics, held_out_matrix, moments_by_fold, planted


def dense_ridge(values: Tensor, features: Tensor, penalty: float) -> Tensor:
    """Coefficients (d, D) by the normal equations of centred rows, with the penalty as further rows."""
    X, y = (table.double() - table.double().mean(0) for table in (features, values))
    strength = penalty * X.square().sum() / X.shape[1]  # the mean eigenvalue, times the number of images
    rows = torch.cat([X, strength.sqrt() * torch.eye(X.shape[1])])
    return torch.linalg.lstsq(rows, torch.cat([y, torch.zeros(X.shape[1], y.shape[1])])).solution


def by_definition(values: Tensor, features: Tensor, folds: Tensor) -> Tensor:
    found = []
    for penalty in PENALTIES:
        predicted = torch.zeros_like(values, dtype=torch.float64)
        for fold in folds.unique().tolist():
            mine = folds == fold
            weights = dense_ridge(values[~mine], features[~mine], penalty)
            scale = (features[~mine].double() @ weights).std(0, correction=0)
            predicted[mine] = features[mine].double() @ weights / scale
        found.append(held_out_matrix(predicted, values, folds).diagonal())
    return max(found, key=lambda r: float(r.nanmean()))


def test_the_ceiling_is_that_of_ridge_regression_refitted_for_every_fold() -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        world = planted(500)
        values = world.activations + 1000 * (torch.arange(24) == 3)
        folds = torch.randint(8, (500,))
        found = ceiling(moments_by_fold(values, world.features, folds))
        torch.testing.assert_close(found, by_definition(values, world.features, folds), rtol=0, atol=1e-5)


def test_one_penalty_is_taken_for_the_layer() -> None:
    """That of the best mean: no neuron chooses its own by what was left out."""
    world = planted(120, noise=2.0)
    folds = torch.arange(120) % 8
    moments = moments_by_fold(world.activations, world.features, folds)
    found = ceiling(moments)
    torch.testing.assert_close(found, by_definition(world.activations, world.features, folds), rtol=0, atol=1e-5)


def test_the_regression_is_that_of_the_normal_equations() -> None:
    world = planted(300)
    statistics = dense_statistics(world.activations, world.features)
    for penalty in PENALTIES:
        wanted = dense_ridge(world.activations, world.features, penalty).T / statistics.deviations[:, None]
        torch.testing.assert_close(ridge(statistics, penalty), wanted, rtol=1e-6, atol=1e-6)


def test_words_seldom_rise_above_the_ceiling() -> None:
    world = planted(1500)
    moments = moments_by_fold(world.activations, world.features, torch.arange(1500) % 8)
    trust = cross_validated(
        moments, lambda folds: Linear().paths(moments.statistics(folds), world.texts), world.texts
    ).trust
    assert float((ceiling(moments) - trust.r).min()) > -0.05


def test_what_embeddings_do_not_show_has_a_ceiling_of_nothing() -> None:
    world = planted(1500)
    found = ceiling(moments_by_fold(torch.randn(1500, 30), world.features, torch.arange(1500) % 8))
    assert abs(float(found.mean())) < 0.03


def test_constant_neurons_and_few_images_have_no_ceiling() -> None:
    world = planted(100)
    values = world.activations.clone()
    values[:, 1], values[:, 2] = 0, 3
    folds = torch.arange(100) % 8
    assert ceiling(moments_by_fold(values, world.features, folds)).isnan().nonzero().flatten().tolist() == [1, 2]
    few = slice(0, LEAST_IMAGES - 1)
    assert bool(ceiling(moments_by_fold(values[few], world.features[few], folds[few])).isnan().all())
    assert bool(ceiling(moments_by_fold(values, world.features, 0 * folds)).isnan().all())
