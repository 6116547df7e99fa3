"""Linear layer fed by winners, against the dense product on the dense tensor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from benchmarks.conftest import CUDA, DEVICE, DTYPE
from lwta import Winners, functional

SIZES = (
    [(1, 768, 192), (8, 3072, 768), (197 * 1024, 768, 192)]
    if CUDA
    else [(1, 768, 192), (197, 768, 192), (12608, 768, 192)]
)


@pytest.mark.parametrize("provider", ["ours", "to dense, then product", "product alone"])
@pytest.mark.parametrize("competitors", [2, 8, 12, 24])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_winners_linear(
    size: tuple[int, int, int], competitors: int, provider: str, measure: Callable[..., None]
) -> None:
    rows, units, outputs = size
    values = torch.randn(rows, units // competitors, device=DEVICE, dtype=DTYPE)
    indices = torch.randint(0, competitors, values.shape, device=DEVICE).to(torch.uint8)
    winners = Winners(values, indices, competitors)
    weight = torch.randn(outputs, units, device=DEVICE, dtype=DTYPE)
    dense = winners.to_dense()
    runs = {
        "ours": lambda: functional.winners_linear(winners, weight),
        "to dense, then product": lambda: F.linear(winners.to_dense(), weight),
        "product alone": lambda: F.linear(dense, weight),
    }
    with torch.no_grad():
        measure(
            runs[provider],
            row={
                "operation": "winners_linear",
                "provider": provider,
                "size": list(size),
                "competitors": competitors,
                "direction": "forward",
            },
        )
