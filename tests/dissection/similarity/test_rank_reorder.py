"""Errors of orders against those of random ones."""

from __future__ import annotations

import pytest
import torch

from lwta.dissection.similarity.rank_reorder import _error_of_random_order


@pytest.mark.parametrize("values", [[3.0, 1, 1, 0], [5.0, 5, 5], [1e6 + 1, 1e6, 1e6], [7.0], [1e-20, 0, -1e-20]])
def test_error_of_random_order_is_that_of_all_pairs(values: list[float]) -> None:
    a = torch.tensor(values).numpy()
    expected = abs(a[:, None].astype(float) - a.astype(float)) ** 3
    assert _error_of_random_order(a) == pytest.approx(expected.mean(), rel=1e-9, abs=0)
