"""The competition in compact form, against finding the winners in the dense output of the authors' formulation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks.conftest import CUDA, DEVICE, DTYPE
from benchmarks.providers import authors_lwta
from lwta import functional

SIZES = [(197 * 1024, 768), (8192, 16384)] if CUDA else [(12608, 768)]


@pytest.mark.parametrize("provider", ["ours", "authors eager, then max"])
@pytest.mark.parametrize("competitors", [2, 8, 16])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_winners(size: tuple[int, int], competitors: int, provider: str, measure: Callable[..., None]) -> None:
    x = torch.randn(size, device=DEVICE, dtype=DTYPE)

    def theirs() -> tuple[Tensor, Tensor]:
        # as their dissection does, by size, because the output may be negative
        y = authors_lwta(x, competitors).unflatten(-1, (-1, competitors))
        indices = y.abs().argmax(-1, keepdim=True)
        return y.gather(-1, indices), indices

    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: functional.winners(x, competitors),
        "authors eager, then max": theirs,
    }
    with torch.no_grad():
        measure(
            runs[provider],
            row={
                "operation": "winners",
                "provider": provider,
                "size": list(size),
                "competitors": competitors,
                "direction": "forward",
            },
            moved=x.numel() * (x.element_size() + (x.element_size() + 1) / competitors),
        )
