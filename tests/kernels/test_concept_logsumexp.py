"""log Σ exp of the cosines of images to concepts, which are not written to memory."""

import math
from collections.abc import Callable

import pytest
import torch

from lwta.kernels import concept_logsumexp, eager
from lwta.kernels.operations.concept_logsumexp import launch as launch_logsumexp
from tests.support.concept_cases import SHAPES, close, similarity_operands, unit_rows
from tests.support.kernel_cases import KERNEL_DTYPES, KERNELS, label
from tests.support.pairwise import rotated

RUNS: dict[str, Callable[..., torch.Tensor]] = {
    **dict.fromkeys(KERNELS, launch_logsumexp),
    "operation": concept_logsumexp,
}


@pytest.mark.parametrize(
    ("shape", "scale", "dtype", "path"),
    [row for path in RUNS for row in rotated([*SHAPES, (5, 700, 1, 8)], (2.0, 100.0), KERNEL_DTYPES, [path])],
    ids=label,
)
def test_logsumexp(
    shape: tuple[int, int, int, int], scale: float, dtype: torch.dtype, path: str, device: torch.device
) -> None:
    images, concepts, _, features = shape
    i, t = unit_rows(images, features, dtype, device), unit_rows(concepts, features, dtype, device)
    exact, rounded = (
        torch.logsumexp(scale * (i.cpu().to(d) @ t.cpu().to(d).t()), 1) for d in (torch.double, torch.float)
    )
    close(RUNS[path](i, t, scale), exact, rounded, 2.0**-22 * float(exact.norm() + scale * math.sqrt(images)))


@pytest.mark.parametrize("path", RUNS)
def test_logsumexp_of_nothing(path: str, device: torch.device) -> None:
    one, none = torch.ones(1, 4, device=device), torch.ones(0, 4, device=device)
    assert RUNS[path](one, none, 10.0).cpu().tolist() == [-math.inf]
    assert RUNS[path](none, one, 10.0).shape == (0,)


@pytest.mark.parametrize("path", RUNS)
def test_logsumexp_shows_nan_in_its_image(path: str, device: torch.device) -> None:
    i, t = unit_rows(70, 8, torch.float32, device), unit_rows(300, 8, torch.float32, device)
    i[30] = math.nan
    assert torch.equal(RUNS[path](i, t, 10.0).isnan().cpu(), torch.arange(70) == 30)


@pytest.mark.parametrize("path", RUNS)
def test_it_repeats_bit_for_bit(path: str, device: torch.device) -> None:
    i, t, *_ = similarity_operands(300, 70, 33, 24, torch.float32, device)
    assert torch.equal(*(RUNS[path](i, t, 10.0) for _ in range(2)))


def test_the_definition_does_not_depend_on_its_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    i, t, *_ = similarity_operands(40, 9, 5, 8, torch.float64, torch.device("cpu"))
    whole = concept_logsumexp(i, t, 10.0)
    monkeypatch.setattr(eager.concepts, "TILE", 27)
    assert torch.allclose(whole, concept_logsumexp(i, t, 10.0), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=label)
def test_opcheck(dtype: torch.dtype) -> None:
    i, t, *_ = similarity_operands(5, 6, 7, 8, dtype, torch.device("cpu"))
    result = torch.library.opcheck(torch.ops.lwta.concept_logsumexp.default, (i, t, 10.0))
    assert set(result.values()) == {"SUCCESS"}
