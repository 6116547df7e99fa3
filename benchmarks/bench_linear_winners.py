"""Linear layer and competition in one, against the library's product alone and followed by the competition."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from benchmarks.conftest import CUDA, DEVICE, DTYPE
from lwta import functional

SIZES = [(197 * 1024, 192, 768), (197 * 256, 768, 3072), (8192, 4096, 16384)] if CUDA else [(12608, 192, 768)]


@pytest.mark.parametrize("mode", ["sample", "argmax"])
@pytest.mark.parametrize("provider", ["ours", "product, then winners", "product, then lwta compiled", "product alone"])
@pytest.mark.parametrize("competitors", [2, 8, 12, 24])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_linear_winners(
    size: tuple[int, int, int], competitors: int, provider: str, mode: str, measure: Callable[..., None]
) -> None:
    rows, features, units = size
    if units % competitors:
        pytest.skip("U does not divide this width")
    torch.compiler.reset()
    x = torch.randn(rows, features, device=DEVICE, dtype=DTYPE)
    weight = torch.randn(units, features, device=DEVICE, dtype=DTYPE) / features**0.5
    bias = torch.randn(units, device=DEVICE, dtype=DTYPE)
    compiled = torch.compile(lambda h: functional.lwta(h, competitors, mode=mode))  # type: ignore[arg-type]
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: functional.linear_winners(x, weight, bias, competitors, mode=mode),  # type: ignore[arg-type]
        "product, then winners": lambda: functional.winners(F.linear(x, weight, bias), competitors, mode=mode),  # type: ignore[arg-type]
        "product, then lwta compiled": lambda: compiled(F.linear(x, weight, bias)),
        "product alone": lambda: F.linear(x, weight, bias),
    }
    with torch.no_grad():
        measure(
            runs[provider],
            row={
                "operation": "linear_winners",
                "provider": provider,
                "size": list(size),
                "competitors": competitors,
                "direction": mode,
            },
            operations=2 * rows * features * units,
        )
