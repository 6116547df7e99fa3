"""The divergence of the winners' law from the uniform one, against its formula in eager PyTorch and compiled."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks.conftest import CUDA, DEVICE, DTYPE
from lwta import functional

SIZES = [(197 * 1024, 768), (8192, 16384)] if CUDA else [(12608, 768)]


@pytest.mark.parametrize("provider", ["ours", "formula eager", "formula compiled"])
@pytest.mark.parametrize("competitors", [2, 8, 16])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_kl_to_uniform(size: tuple[int, int], competitors: int, provider: str, measure: Callable[..., None]) -> None:
    torch.compiler.reset()
    x = torch.randn(size, device=DEVICE, dtype=DTYPE, requires_grad=True)

    def formula(x: Tensor) -> Tensor:
        log_pi = torch.log_softmax(x.unflatten(-1, (-1, competitors)).float(), -1)
        return (log_pi.exp() * log_pi).sum(-1).mean() + math.log(competitors)

    providers: dict[str, Callable[[Tensor], Tensor]] = {
        "ours": lambda x: functional.kl_to_uniform(x, competitors),
        "formula eager": formula,
        "formula compiled": torch.compile(formula),
    }
    divergence = providers[provider]
    measure(
        lambda: torch.autograd.grad(divergence(x), x),
        row={
            "operation": "kl_to_uniform",
            "provider": provider,
            "size": list(size),
            "competitors": competitors,
            "direction": "both",
        },
        moved=3 * x.numel() * x.element_size(),
        kept=lambda: divergence(x),
    )
