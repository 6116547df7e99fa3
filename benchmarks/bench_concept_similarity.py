"""Reductions over images of their cosines to concepts, against the dense formulas, which write those to memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.conftest import CUDA, DEVICE
from lwta.kernels import concept_log_p, concept_logsumexp, concept_similarity

IMAGES, FEATURES, NEURONS, CONCEPTS, TOP = (20_000, 512, 768, 2_000, 100) if CUDA else (2_000, 512, 96, 400, 100)
SIZE = [IMAGES, FEATURES, NEURONS, CONCEPTS]
SCALE = 10.0


def dense_similarity(images: Tensor, texts: Tensor, weights: Tensor, centre: Tensor, power: int) -> tuple[Tensor, ...]:
    """The formula as it is written."""
    f = (images @ texts.t() - centre) ** power
    return weights.t() @ f, f.square().sum(0)


def dense_log_p(images: Tensor, texts: Tensor, top: Tensor, p: Tensor) -> Tensor:
    """The published formula, with S in memory, some neurons at a time."""
    S = torch.softmax(SCALE * (images @ texts.t()), 1)
    return torch.cat([torch.log(1 + p[:, None] * (S[rows] - 1) + 1e-7).sum(1) for rows in top.split(32)])


def our_log_p(images: Tensor, texts: Tensor, top: Tensor, p: Tensor) -> Tensor:
    """Both kernels of the mutual information."""
    return concept_log_p(images, texts, concept_logsumexp(images, texts, SCALE), top, p, SCALE)


def _row(operation: str, provider: str) -> dict[str, object]:
    return {
        "operation": operation, "provider": provider, "size": SIZE, "competitors": None, "direction": "forward",
        "operand": "float32",
    }  # fmt: skip


@pytest.mark.parametrize("provider", ["ours", "dense", "dense compiled"])
@pytest.mark.parametrize("power", [1, 3])
def test_concept_similarity(power: int, provider: str, measure: Callable[..., None]) -> None:
    images, texts = (normalize(torch.randn(rows, FEATURES, device=DEVICE), dim=1) for rows in (IMAGES, CONCEPTS))
    weights = torch.randn(IMAGES, NEURONS, device=DEVICE)
    centre = texts @ images.mean(0)
    runs = {"ours": concept_similarity, "dense": dense_similarity, "dense compiled": torch.compile(dense_similarity)}
    measure(
        lambda: runs[provider](images, texts, weights, centre, power),
        row=_row(f"concept_similarity_{power}", provider),
        operations=2 * IMAGES * CONCEPTS * (FEATURES + NEURONS),
    )


@pytest.mark.parametrize("provider", ["ours", "dense", "dense compiled"])
def test_concept_log_p(provider: str, measure: Callable[..., None]) -> None:
    images, texts = (normalize(torch.randn(rows, FEATURES, device=DEVICE), dim=1) for rows in (IMAGES, CONCEPTS))
    top = torch.randint(0, IMAGES, (NEURONS, TOP), device=DEVICE)
    p = 0.998 - torch.arange(TOP, device=DEVICE) / TOP * 0.028
    runs = {"ours": our_log_p, "dense": dense_log_p, "dense compiled": torch.compile(dense_log_p)}
    measure(lambda: runs[provider](images, texts, top, p), row=_row("concept_log_p", provider))
