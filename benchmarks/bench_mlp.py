"""The perceptron of a transformer block: inference, and a training step, with competition and with GELU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from benchmarks.conftest import CUDA, DEVICE, DTYPE
from benchmarks.providers import mlps

SIZES = [(197 * 256, 192), (197 * 256, 384)] if CUDA else [(12608, 192)]
PROVIDERS = ("ours", "ours dense", "authors eager", "gelu", "gelu compiled")


@pytest.mark.parametrize("direction", ["inference", "training"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("competitors", [2, 8, 24])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_mlp(
    size: tuple[int, int], competitors: int, provider: str, direction: str, measure: Callable[..., None]
) -> None:
    torch.compiler.reset()
    rows, features = size
    model = mlps(features, 4 * features, competitors)[provider].to(DEVICE, DTYPE)
    model.train(direction == "training")
    x = torch.randn(size, device=DEVICE, dtype=DTYPE, requires_grad=True)
    grad = torch.randn(size, device=DEVICE, dtype=DTYPE)
    parameters = (x, *model.parameters())

    def inference() -> torch.Tensor:
        with torch.no_grad():
            return model(x)

    def training() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(model(x), parameters, grad)

    product = 2 * rows * features * 4 * features
    measure(
        training if direction == "training" else inference,
        row={
            "operation": "mlp",
            "provider": provider,
            "size": list(size),
            "competitors": competitors,
            "direction": direction,
        },
        operations=product * (6 if direction == "training" else 2),
        kept=(lambda: model(x)) if direction == "training" else None,
    )
