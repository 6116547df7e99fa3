"""Products of activations with the cosines of images to concepts, which are not written to memory."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lwta.kernels import concept_similarity, eager
from lwta.kernels.operations.concept_similarity import launch
from tests.support.concept_cases import SHAPES, close, similarity_operands
from tests.support.kernel_cases import KERNEL_DTYPES, KERNELS, label, place_of, running
from tests.support.pairwise import examples, rotated

RUNS: dict[str, Callable[..., Any]] = {**dict.fromkeys(KERNELS, launch), "operation": concept_similarity}


def _similarity(
    images: torch.Tensor, texts: torch.Tensor, weights: torch.Tensor, centre: torch.Tensor, power: int
) -> tuple[torch.Tensor, torch.Tensor]:
    f = (images @ texts.t() - centre) ** power
    return weights.t() @ f, (f * f).sum(0)


def _check_similarity(path: str, operands: tuple[torch.Tensor, ...], power: int) -> None:
    on_cpu = [t.cpu() for t in operands]
    exact = _similarity(*(t.double() for t in on_cpu), power)
    eager = _similarity(*(t.float() for t in on_cpu), power)
    i, t, w, c = (t.double() for t in on_cpu)
    largest = (i.abs() @ t.abs().t()).amax() + c.abs().amax() if len(i) else torch.tensor(0.0)
    unit = 2.0**-20 * math.sqrt(len(t))  # of the norm over concepts, which all round alike if they are equal
    rounding = unit * largest**power * w.norm(), unit * largest ** (2 * power) * len(i)
    for got, *others, noise in zip(RUNS[path](*operands, power), exact, eager, rounding, strict=True):
        close(got, *others, rounding=float(noise))


@pytest.mark.parametrize(
    ("shape", "power", "dtype", "path"),
    [row for path in RUNS for row in rotated(SHAPES, (1, 3), KERNEL_DTYPES, [path])],
    ids=label,
)
def test_similarity(
    shape: tuple[int, int, int, int], power: int, dtype: torch.dtype, path: str, device: torch.device
) -> None:
    _check_similarity(path, similarity_operands(*shape, dtype, device), power)


@pytest.mark.slow
@settings(max_examples=examples(15), deadline=None)
@given(
    sizes=st.tuples(st.integers(0, 150), st.integers(1, 80), st.integers(1, 140), st.integers(1, 40)),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    power=st.sampled_from([1, 3]),
)
def test_similarity_of_any_shape(sizes: tuple[int, int, int, int], dtype: torch.dtype, power: int) -> None:
    torch.manual_seed(0)  # a failure must fail again
    for path in (KERNELS[-1], "operation"):
        with running(path):
            _check_similarity(path, similarity_operands(*sizes, dtype, place_of(path)), power)


@pytest.mark.parametrize("path", RUNS)
def test_similarity_of_strided_operands_and_mixed_types(path: str, device: torch.device) -> None:
    i, t, w, c = similarity_operands(50, 24, 20, 16, torch.float32, device)
    _check_similarity(path, (i[:, ::2].half(), t[:, ::2], w.t().contiguous().t()[:, 3:], c.half()), 3)


@pytest.mark.parametrize("path", RUNS)
def test_similarity_shows_nan_in_its_concept_and_its_neuron(path: str, device: torch.device) -> None:
    i, t, w, c = similarity_operands(70, 9, 5, 16, torch.float32, device)
    t[3], w[40, 2] = math.nan, math.nan
    products, squares = RUNS[path](i, t, w, c, 3)
    expected = torch.zeros(5, 9, dtype=torch.bool)
    expected[2], expected[:, 3] = True, True
    assert torch.equal(products.isnan().cpu(), expected)
    assert torch.equal(squares.isnan().cpu(), torch.arange(9) == 3)


@pytest.mark.parametrize("path", RUNS)
def test_similarity_over_no_images_is_zero(path: str, device: torch.device) -> None:
    products, squares = RUNS[path](*similarity_operands(0, 9, 5, 16, torch.float32, device), 1)
    assert torch.equal(products.cpu(), torch.zeros(5, 9))
    assert torch.equal(squares.cpu(), torch.zeros(9))


def test_similarity_refuses_other_powers() -> None:
    with pytest.raises(ValueError, match="power must be 1 or 3, got 2"):
        concept_similarity(*similarity_operands(2, 3, 4, 5, torch.float32, torch.device("cpu")), 2)


@pytest.mark.parametrize("path", RUNS)
def test_it_repeats_bit_for_bit(path: str, device: torch.device) -> None:
    operands = similarity_operands(300, 70, 33, 24, torch.float32, device)
    first, second = (RUNS[path](*operands, 3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_definition_does_not_depend_on_its_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    i, t, w, c = similarity_operands(40, 9, 5, 8, torch.float64, torch.device("cpu"))
    whole = concept_similarity(i, t, w.double(), c, 3)
    monkeypatch.setattr(eager.concepts, "TILE", 27)
    tiled = concept_similarity(i, t, w.double(), c, 3)
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(whole, tiled, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=label)
def test_opcheck(dtype: torch.dtype) -> None:
    operands = similarity_operands(5, 6, 7, 8, dtype, torch.device("cpu"))
    result = torch.library.opcheck(torch.ops.lwta.concept_similarity.default, (*operands, 3))
    assert set(result.values()) == {"SUCCESS"}


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=label)
def test_large_on_a_gpu(dtype: torch.dtype) -> None:
    operands = similarity_operands(20_000, 2_000, 768, 512, dtype, torch.device("cuda"))
    for power in (1, 3):
        _check_similarity("operation", operands, power)
