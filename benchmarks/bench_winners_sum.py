"""Sum of rows by winner, AᵀX, against the dense product."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks.conftest import CUDA, DEVICE, DTYPE
from lwta import Winners
from lwta.kernels import winners_sum

SIZES = [(20_000, 768, 512), (2_000, 768, 512)] if CUDA else [(2_000, 768, 512)]  # images, units, features
PROVIDERS = ["ours", "to dense, then product", "the same compiled", "product alone"]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("competitors", [2, 8, 12, 24])
@pytest.mark.parametrize("dtype", dict.fromkeys([torch.float32, DTYPE]), ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_winners_sum(
    size: tuple[int, int, int], dtype: torch.dtype, competitors: int, provider: str, measure: Callable[..., None]
) -> None:
    images, units, features = size
    values = torch.randn(images, units // competitors, device=DEVICE, dtype=dtype)
    indices = torch.randint(0, competitors, values.shape, device=DEVICE).to(torch.uint8)
    x = torch.randn(images, features, device=DEVICE, dtype=dtype)
    dense = Winners(values, indices, competitors).to_dense()

    def eager(values: Tensor, indices: Tensor, x: Tensor) -> Tensor:
        return Winners(values, indices, competitors).to_dense().t() @ x

    compiled = torch.compile(eager)
    runs = {
        "ours": lambda: winners_sum(values, indices, x, competitors),
        "to dense, then product": lambda: eager(values, indices, x),
        "the same compiled": lambda: compiled(values, indices, x),
        "product alone": lambda: dense.t() @ x,
    }
    measure(
        runs[provider],
        row={
            "operation": "winners_sum",
            "provider": provider,
            "size": list(size),
            "competitors": competitors,
            "direction": "forward",
            "operand": str(dtype).removeprefix("torch."),
        },
        operations=2 * images * units * features,
    )
