"""Reductions over images of their cosines to concepts, none of which writes those cosines to memory."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import interpretable_dtypes
from hypothesis import given, settings
from hypothesis import strategies as st

from lwta.kernels import concept_log_p, concept_logsumexp, concept_similarity, eager
from lwta.kernels.operations.concept_log_p import launch as launch_log_p
from lwta.kernels.operations.concept_logsumexp import launch as launch_logsumexp
from lwta.kernels.operations.concept_similarity import launch

# images, concepts, neurons, features
SHAPES = [(1, 1, 1, 1), (3, 5, 2, 7), (70, 9, 33, 20), (65, 130, 5, 40), (300, 20, 130, 16), (600, 3, 4, 33)]
SIMILARITY = [pytest.param(launch, id="kernel"), pytest.param(concept_similarity, id="operation")]
LOGSUMEXP = [pytest.param(launch_logsumexp, id="kernel"), pytest.param(concept_logsumexp, id="operation")]
LOG_P = [pytest.param(launch_log_p, id="kernel"), pytest.param(concept_log_p, id="operation")]
Path = Callable[..., Any]


def _unit(rows: int, features: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, features), dim=1).to(device, dtype)


def _similarity(
    images: torch.Tensor, texts: torch.Tensor, weights: torch.Tensor, centre: torch.Tensor, power: int
) -> tuple[torch.Tensor, torch.Tensor]:
    f = (images @ texts.t() - centre) ** power
    return weights.t() @ f, (f * f).sum(0)


def _log_p(images: torch.Tensor, texts: torch.Tensor, top: torch.Tensor, p: torch.Tensor, scale: float) -> torch.Tensor:
    """As the published code has it, neuron by neuron."""
    S = torch.softmax(scale * images @ texts.t(), 1)
    rows = [torch.log(1 + p[row >= 0, None] * (S[row[row >= 0]] - 1) + 1e-7).sum(0) for row in top]
    return torch.stack(rows)


def _memberships(k: int, start: float = 0.998, end: float = 0.97) -> torch.Tensor:
    return start - torch.arange(k) / max(k, 1) * (start - end)


def _top(neurons: int, k: int, images: int, device: torch.device) -> torch.Tensor:
    """Rows of images with none among them, most often at the end."""
    top = torch.randint(0, images, (neurons, k))
    return top.masked_fill_(torch.arange(k) >= torch.randint(0, k + 1, (neurons, 1)), -1).to(device)


def _close(got: torch.Tensor, exact: torch.Tensor, eager: torch.Tensor, rounding: float) -> None:
    """At most twice the error of eager float32, and what rounding alone may do where eager is exact by luck."""
    assert got.dtype == torch.float32
    assert got.shape == exact.shape
    assert (got.cpu().double() - exact).norm() <= 2 * (eager.double() - exact).norm() + rounding


def _check_similarity(path: Path, operands: tuple[torch.Tensor, ...], power: int) -> None:
    on_cpu = [t.cpu() for t in operands]
    exact = _similarity(*(t.double() for t in on_cpu), power)
    eager = _similarity(*(t.float() for t in on_cpu), power)
    i, t, w, c = (t.double() for t in on_cpu)
    largest = (i.abs() @ t.abs().t()).amax() + c.abs().amax() if len(i) else torch.tensor(0.0)
    unit = 2.0**-20 * math.sqrt(len(t))  # of the norm over concepts, which all round alike if they are equal
    rounding = unit * largest**power * w.norm(), unit * largest ** (2 * power) * len(i)
    for got, *others, noise in zip(path(*operands, power), exact, eager, rounding, strict=True):
        _close(got, *others, rounding=float(noise))


def _similarity_operands(
    images: int, concepts: int, neurons: int, features: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, ...]:
    i, t = _unit(images, features, dtype, device), _unit(concepts, features, dtype, device)
    centre = i.float().mean(0) @ t.float().t() if images else torch.zeros(concepts, device=device)
    return i, t, torch.randn(images, neurons).to(device), centre


@pytest.mark.parametrize("path", SIMILARITY)
@pytest.mark.parametrize("power", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_similarity(shape: tuple[int, int, int, int], power: int, path: Path, device: torch.device) -> None:
    for dtype in interpretable_dtypes():
        _check_similarity(path, _similarity_operands(*shape, dtype, device), power)


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.tuples(st.integers(0, 150), st.integers(1, 80), st.integers(1, 140), st.integers(1, 40)),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    power=st.sampled_from([1, 3]),
)
def test_similarity_of_any_shape(sizes: tuple[int, int, int, int], dtype: torch.dtype, power: int) -> None:
    torch.manual_seed(0)  # a failure must fail again
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    operands = _similarity_operands(*sizes, dtype, device)
    for path in (launch, concept_similarity):
        _check_similarity(path, operands, power)


@pytest.mark.parametrize("path", SIMILARITY)
def test_similarity_of_strided_operands_and_mixed_types(path: Path, device: torch.device) -> None:
    i, t, w, c = _similarity_operands(50, 24, 20, 16, torch.float32, device)
    _check_similarity(path, (i[:, ::2].half(), t[:, ::2], w.t().contiguous().t()[:, 3:], c.half()), 3)


@pytest.mark.parametrize("path", SIMILARITY)
def test_similarity_shows_nan_in_its_concept_and_its_neuron(path: Path, device: torch.device) -> None:
    i, t, w, c = _similarity_operands(70, 9, 5, 16, torch.float32, device)
    t[3], w[40, 2] = math.nan, math.nan
    products, squares = path(i, t, w, c, 3)
    expected = torch.zeros(5, 9, dtype=torch.bool)
    expected[2], expected[:, 3] = True, True
    assert torch.equal(products.isnan().cpu(), expected)
    assert torch.equal(squares.isnan().cpu(), torch.arange(9) == 3)


@pytest.mark.parametrize("path", SIMILARITY)
def test_similarity_over_no_images_is_zero(path: Path, device: torch.device) -> None:
    products, squares = path(*_similarity_operands(0, 9, 5, 16, torch.float32, device), 1)
    assert torch.equal(products.cpu(), torch.zeros(5, 9))
    assert torch.equal(squares.cpu(), torch.zeros(9))


def test_similarity_refuses_other_powers() -> None:
    with pytest.raises(ValueError, match="power must be 1 or 3, got 2"):
        concept_similarity(*_similarity_operands(2, 3, 4, 5, torch.float32, torch.device("cpu")), 2)


@pytest.mark.parametrize("path", LOGSUMEXP)
@pytest.mark.parametrize("scale", [2.0, 100.0])
@pytest.mark.parametrize("shape", [*SHAPES, (5, 700, 1, 8)], ids=lambda shape: "x".join(map(str, shape)))
def test_logsumexp(shape: tuple[int, int, int, int], scale: float, path: Path, device: torch.device) -> None:
    images, concepts, _, features = shape
    for dtype in interpretable_dtypes():
        i, t = _unit(images, features, dtype, device), _unit(concepts, features, dtype, device)
        exact, eager = (
            torch.logsumexp(scale * (i.cpu().to(d) @ t.cpu().to(d).t()), 1) for d in (torch.double, torch.float)
        )
        _close(path(i, t, scale), exact, eager, 2.0**-22 * float(exact.norm() + scale * math.sqrt(images)))


@pytest.mark.parametrize("path", LOGSUMEXP)
def test_logsumexp_of_nothing(path: Path, device: torch.device) -> None:
    one, none = torch.ones(1, 4, device=device), torch.ones(0, 4, device=device)
    assert path(one, none, 10.0).cpu().tolist() == [-math.inf]
    assert path(none, one, 10.0).shape == (0,)


@pytest.mark.parametrize("path", LOGSUMEXP)
def test_logsumexp_shows_nan_in_its_image(path: Path, device: torch.device) -> None:
    i, t = _unit(70, 8, torch.float32, device), _unit(300, 8, torch.float32, device)
    i[30] = math.nan
    assert torch.equal(path(i, t, 10.0).isnan().cpu(), torch.arange(70) == 30)


def _check_log_p(
    path: Path, shape: tuple[int, int, int, int], k: int, scale: float, p: torch.Tensor, dtype: torch.dtype
) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, concepts, neurons, features = shape
    i, t = _unit(images, features, dtype, device), _unit(concepts, features, dtype, device)
    top = _top(neurons, k, images, device)
    operands = i.cpu(), t.cpu(), top.cpu(), p
    exact = _log_p(*(x if x.dtype == torch.int64 else x.double() for x in operands), scale)
    eager = _log_p(*(x if x.dtype == torch.int64 else x.float() for x in operands), scale)
    lse = concept_logsumexp(i, t, scale)
    # what float32 may lose: in a sum of logarithms, and in each of their arguments, exp(scale·P − lse)
    in_arguments = math.sqrt(exact.numel()) * k * scale * 2.0**-21
    _close(path(i, t, lse, top, p.to(device), scale), exact, eager, 2.0**-20 * float(exact.norm()) + in_arguments)


@pytest.mark.parametrize("path", LOG_P)
@pytest.mark.parametrize(
    ("k", "scale", "start", "end"), [(100, 10.0, 0.998, 0.97), (28, 2.0, 1, 1), (1, 10.0, 0.5, 0.5)]
)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_log_p(shape: tuple[int, int, int, int], k: int, scale: float, start: float, end: float, path: Path) -> None:
    if shape[0] * shape[2] > 1000:
        shape = (*shape[:2], 7, shape[3])
    for dtype in interpretable_dtypes():
        _check_log_p(path, shape, k, scale, _memberships(k, start, end), dtype)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 80), st.integers(1, 9), st.integers(1, 40)),
    k=st.sampled_from([1, 5, 28, 100, 130]),
    scale=st.sampled_from([1.0, 10.0]),
    dtype=st.sampled_from([torch.float32, torch.float16]),
)
def test_log_p_of_any_shape(shape: tuple[int, int, int, int], k: int, scale: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)  # a failure must fail again
    for path in (launch_log_p, concept_log_p):
        _check_log_p(path, shape, k, scale, _memberships(k), dtype)


@pytest.mark.parametrize("path", LOG_P)
def test_log_p_without_images_is_zero(path: Path, device: torch.device) -> None:
    i, t = _unit(4, 8, torch.float32, device), _unit(6, 8, torch.float32, device)
    none = torch.full((3, 5), -1, device=device)
    p = _memberships(5).to(device)
    assert torch.equal(path(i, t, torch.zeros(4, device=device), none, p, 10.0).cpu(), torch.zeros(3, 6))
    assert torch.equal(path(i[:0], t, torch.zeros(0, device=device), none, p, 10.0).cpu(), torch.zeros(3, 6))


@pytest.mark.parametrize("path", LOG_P)
def test_log_p_resolves_small_probabilities(path: Path, device: torch.device) -> None:
    """Where S is below the resolution of float32 beside 1, p·S still counts."""
    i, t = torch.eye(2, device=device)[:1], torch.eye(2, device=device)
    lse = concept_logsumexp(i, t, 18.0)
    got = path(i, t, lse, torch.zeros(1, 1, dtype=torch.int64, device=device), torch.ones(1, device=device), 18.0)
    S = torch.softmax(torch.tensor([18.0, 0.0], dtype=torch.float64), 0)
    assert torch.allclose(got.cpu().double()[0], torch.log(S + 1e-7), rtol=1e-6, atol=1e-6)


def test_everything_repeats_bit_for_bit(device: torch.device) -> None:
    i, t, w, c = _similarity_operands(300, 70, 33, 24, torch.float32, device)
    top, p = _top(9, 40, 300, device), _memberships(40).to(device)
    for paths in (SIMILARITY, LOGSUMEXP, LOG_P):
        arguments = {
            id(SIMILARITY): (i, t, w, c, 3),
            id(LOGSUMEXP): (i, t, 10.0),
            id(LOG_P): (i, t, concept_logsumexp(i, t, 10.0), top, p, 10.0),
        }[id(paths)]
        for path in paths:
            first, second = (path.values[0](*arguments) for _ in range(2))  # type: ignore[operator]
            pairs = zip(first, second, strict=True) if isinstance(first, tuple) else [(first, second)]
            assert all(torch.equal(a, b) for a, b in pairs)


def test_definitions_do_not_depend_on_their_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    i, t, w, c = _similarity_operands(40, 9, 5, 8, torch.float64, torch.device("cpu"))
    top, p = _top(6, 12, 40, i.device), _memberships(12)

    def everything() -> list[torch.Tensor]:
        lse = concept_logsumexp(i, t, 10.0)
        return [*concept_similarity(i, t, w.double(), c, 3), lse, concept_log_p(i, t, lse, top, p, 10.0)]

    whole = everything()
    monkeypatch.setattr(eager.concepts, "TILE", 27)
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(whole, everything(), strict=True))


def test_opcheck() -> None:
    for dtype in (torch.float32, torch.float64, torch.float16):
        i, t, w, c = _similarity_operands(5, 6, 7, 8, dtype, torch.device("cpu"))
        lse, top, p = concept_logsumexp(i, t, 10.0), _top(3, 4, 5, i.device), _memberships(4)
        for operation, arguments in (
            (torch.ops.lwta.concept_similarity, (i, t, w, c, 3)),
            (torch.ops.lwta.concept_logsumexp, (i, t, 10.0)),
            (torch.ops.lwta.concept_log_p, (i, t, lse, top, p, 10.0)),
        ):
            result = torch.library.opcheck(operation.default, arguments)
            assert set(result.values()) == {"SUCCESS"}


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_large_on_a_gpu(dtype: torch.dtype) -> None:
    shape = (20_000, 2_000, 768, 512)
    operands = _similarity_operands(*shape, dtype, torch.device("cuda"))
    for power in (1, 3):
        _check_similarity(concept_similarity, operands, power)
    _check_log_p(concept_log_p, (2_000, 2_000, 64, 512), 100, 10.0, _memberships(100), dtype)
