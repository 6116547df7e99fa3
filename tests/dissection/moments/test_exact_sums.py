"""Sums that do not depend on the order of their terms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lwta.dissection.moments.exact_sums import ExactGram, ExactProduct
from tests.support.similarities import unit_rows


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_exact_product_counts_numbers_to_a_millionth_of_the_largest(numbers: list[float]) -> None:
    product = ExactProduct()
    for number in numbers:
        product.add(torch.tensor([[number]]), torch.ones(1, 1))
    error = max(map(abs, numbers)) * len(numbers) * 2.0**-20
    assert product.total().item() == pytest.approx(math.fsum(numbers), rel=1e-14, abs=error)


def test_exact_product_leaves_its_arguments_alone() -> None:
    a, x = torch.randn(30, 3, dtype=torch.float64), torch.rand(30, 5, dtype=torch.float64)
    before = a.clone(), x.clone()
    ExactProduct().add(a, x)
    ExactGram().add(x)
    assert torch.equal(a, before[0])
    assert torch.equal(x, before[1])


def test_exact_product_over_more_rows_than_fit_a_float64() -> None:
    a, x = torch.rand(5000, 2), unit_rows(5000, 3)
    product = ExactProduct()
    product.add(a, x)
    torch.testing.assert_close(product.total(), a.double().T @ x.double(), rtol=0, atol=5000 * 2.0**-23)
