"""The competition as an activation, against the authors' formulation and the floor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.conftest import CUDA, DEVICE, DTYPE
from benchmarks.providers import activations

SIZES = [(197 * 256, 768), (197 * 256, 1536), (8192, 16384)] if CUDA else [(12608, 768)]
PROVIDERS = ("ours", "ours compiled", "authors eager", "authors compiled", "gelu", "relu")


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("competitors", [2, 4, 8, 12, 16, 24])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_lwta(
    size: tuple[int, int], competitors: int, provider: str, direction: str, measure: Callable[..., None]
) -> None:
    if size[1] % competitors:
        pytest.skip("U does not divide this width")
    torch.compiler.reset()
    activation = activations(competitors)[provider]
    x = torch.randn(size, device=DEVICE, dtype=DTYPE, requires_grad=True)
    grad = torch.randn(size, device=DEVICE, dtype=DTYPE)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return activation(x)

    y = activation(x)
    runs: dict[str, Callable[[], Any]] = {
        "forward": forward,
        "backward": lambda: torch.autograd.grad(y, x, grad, retain_graph=True),
        "both": lambda: torch.autograd.grad(activation(x), x, grad),
    }
    tensors = {"forward": 2, "backward": 3, "both": 5}[direction]  # read and written at the least
    measure(
        runs[direction],
        row={
            "operation": "lwta",
            "provider": provider,
            "size": list(size),
            "competitors": competitors,
            "direction": direction,
        },
        moved=tensors * x.numel() * x.element_size(),
        kept=(lambda: activation(x)) if direction == "both" else None,
    )
