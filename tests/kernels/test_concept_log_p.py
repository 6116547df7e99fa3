"""Sums over a neuron's images of the logarithms of concepts' probabilities, which are not written to memory."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lwta.kernels import concept_log_p, concept_logsumexp, eager
from lwta.kernels.operations.concept_log_p import launch as launch_log_p
from tests.support.concept_cases import SHAPES, close, memberships, similarity_operands, top_images, unit_rows
from tests.support.kernel_cases import KERNEL_DTYPES, KERNELS, label, place_of, running
from tests.support.pairwise import examples, rotated

RUNS: dict[str, Callable[..., torch.Tensor]] = {**dict.fromkeys(KERNELS, launch_log_p), "operation": concept_log_p}
# top_k, scale, and the memberships of the first and the last image
VARIANTS = {"soft_wpmi": (100, 10.0, 0.998, 0.97), "wpmi": (28, 2.0, 1, 1), "one": (1, 10.0, 0.5, 0.5)}


def _log_p(images: torch.Tensor, texts: torch.Tensor, top: torch.Tensor, p: torch.Tensor, scale: float) -> torch.Tensor:
    """As the published code has it, neuron by neuron."""
    S = torch.softmax(scale * images @ texts.t(), 1)
    rows = [torch.log(1 + p[row >= 0, None] * (S[row[row >= 0]] - 1) + 1e-7).sum(0) for row in top]
    return torch.stack(rows)


def _check_log_p(
    path: str, shape: tuple[int, int, int, int], k: int, scale: float, p: torch.Tensor, dtype: torch.dtype
) -> None:
    device = place_of(path)
    images, concepts, neurons, features = shape
    i, t = unit_rows(images, features, dtype, device), unit_rows(concepts, features, dtype, device)
    top = top_images(neurons, k, images, device)
    operands = i.cpu(), t.cpu(), top.cpu(), p
    exact = _log_p(*(x if x.dtype == torch.int64 else x.double() for x in operands), scale)
    eager = _log_p(*(x if x.dtype == torch.int64 else x.float() for x in operands), scale)
    lse = concept_logsumexp(i, t, scale)
    # what float32 may lose: in a sum of logarithms, and in each of their arguments, exp(scale·P − lse)
    in_arguments = math.sqrt(exact.numel()) * k * scale * 2.0**-21
    with running(path):
        got = RUNS[path](i, t, lse, top, p.to(device), scale)
    close(got, exact, eager, 2.0**-20 * float(exact.norm()) + in_arguments)


@pytest.mark.parametrize(
    ("shape", "variant", "dtype", "path"),
    [row for path in RUNS for row in rotated(SHAPES, list(VARIANTS), KERNEL_DTYPES, [path])],
    ids=label,
)
def test_log_p(shape: tuple[int, int, int, int], variant: str, dtype: torch.dtype, path: str) -> None:
    k, scale, start, end = VARIANTS[variant]
    if shape[0] * shape[2] > 1000:
        shape = (*shape[:2], 7, shape[3])
    _check_log_p(path, shape, k, scale, memberships(k, start, end), dtype)


@pytest.mark.slow
@settings(max_examples=examples(15), deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 80), st.integers(1, 9), st.integers(1, 40)),
    k=st.sampled_from([5, 130]),
    scale=st.sampled_from([1.0, 10.0]),
    dtype=st.sampled_from([torch.float32, torch.float16]),
)
def test_log_p_of_any_shape(shape: tuple[int, int, int, int], k: int, scale: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)  # a failure must fail again
    for path in (KERNELS[-1], "operation"):
        _check_log_p(path, shape, k, scale, memberships(k), dtype)


@pytest.mark.parametrize("path", RUNS)
def test_log_p_without_images_is_zero(path: str, device: torch.device) -> None:
    i, t = unit_rows(4, 8, torch.float32, device), unit_rows(6, 8, torch.float32, device)
    none = torch.full((3, 5), -1, device=device)
    p = memberships(5).to(device)
    assert torch.equal(RUNS[path](i, t, torch.zeros(4, device=device), none, p, 10.0).cpu(), torch.zeros(3, 6))
    assert torch.equal(RUNS[path](i[:0], t, torch.zeros(0, device=device), none, p, 10.0).cpu(), torch.zeros(3, 6))


@pytest.mark.parametrize("path", RUNS)
def test_log_p_resolves_small_probabilities(path: str, device: torch.device) -> None:
    """Where S is below the resolution of float32 beside 1, p·S still counts."""
    i, t = torch.eye(2, device=device)[:1], torch.eye(2, device=device)
    lse = concept_logsumexp(i, t, 18.0)
    got = RUNS[path](i, t, lse, torch.zeros(1, 1, dtype=torch.int64, device=device), torch.ones(1, device=device), 18.0)
    S = torch.softmax(torch.tensor([18.0, 0.0], dtype=torch.float64), 0)
    assert torch.allclose(got.cpu().double()[0], torch.log(S + 1e-7), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("path", RUNS)
def test_it_repeats_bit_for_bit(path: str, device: torch.device) -> None:
    i, t, *_ = similarity_operands(300, 70, 33, 24, torch.float32, device)
    top, p = top_images(9, 40, 300, device), memberships(40).to(device)
    lse = concept_logsumexp(i, t, 10.0)
    assert torch.equal(*(RUNS[path](i, t, lse, top, p, 10.0) for _ in range(2)))


def test_the_definition_does_not_depend_on_its_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    i, t, *_ = similarity_operands(40, 9, 5, 8, torch.float64, torch.device("cpu"))
    top, p, lse = top_images(6, 12, 40, i.device), memberships(12), concept_logsumexp(i, t, 10.0)
    whole = concept_log_p(i, t, lse, top, p, 10.0)
    monkeypatch.setattr(eager.concepts, "TILE", 27)
    assert torch.allclose(whole, concept_log_p(i, t, lse, top, p, 10.0), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=label)
def test_opcheck(dtype: torch.dtype) -> None:
    i, t, *_ = similarity_operands(5, 6, 7, 8, dtype, torch.device("cpu"))
    lse, top, p = concept_logsumexp(i, t, 10.0), top_images(3, 4, 5, i.device), memberships(4)
    result = torch.library.opcheck(torch.ops.lwta.concept_log_p.default, (i, t, lse, top, p, 10.0))
    assert set(result.values()) == {"SUCCESS"}


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=label)
def test_large_on_a_gpu(dtype: torch.dtype) -> None:
    _check_log_p("operation", (2_000, 2_000, 64, 512), 100, 10.0, memberships(100), dtype)
