"""The perceptron of a transformer block: inference, and a training step, with competition and with GELU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from benchmarks.conftest import CUDA, DEVICE, DTYPE
from benchmarks.providers import mlps

SIZES = [(197 * 1024, 192), (197 * 1024, 384)] if CUDA else [(12608, 192)]
PROVIDERS = ("ours", "ours dense", "authors eager", "gelu", "gelu compiled")


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("competitors", [2, 8, 24])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_mlp(size: tuple[int, int], competitors: int, provider: str, measure: Callable[..., None]) -> None:
    torch.compiler.reset()
    rows, features = size
    model = mlps(features, 4 * features, competitors)[provider].to(DEVICE, DTYPE)
    x, grad = (torch.randn(size, device=DEVICE, dtype=DTYPE) for _ in range(2))
    x.requires_grad_()
    parameters = (x, *model.parameters())

    def inference() -> torch.Tensor:
        with torch.no_grad():
            return model(x)

    def training() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(model(x), parameters, grad)

    products = {inference: 2, training: 6}
    for run in (inference, training):
        model.train(run is training)
        measure(
            run,
            row={
                "operation": "mlp",
                "provider": provider,
                "size": list(size),
                "competitors": competitors,
                "direction": run.__name__,
            },
            operations=products[run] * 2 * rows * features * 4 * features,
            kept=(lambda: model(x)) if run is training else None,
        )
