"""The competition as an activation, against the authors' formulation and the floor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.conftest import CUDA, DEVICE, DTYPE
from benchmarks.providers import activations

ALL = (2, 4, 8, 12, 16, 24)
BATCH = 1024 if CUDA else 16
# the MLPs of DeiT-T and DeiT-S (197 tokens an image), a wide layer, and the stages of ResNet-18
TOKENS = [((197 * 1024, 768), ALL), ((197 * 1024, 1536), ALL)] if CUDA else [((12608, 768), ALL)]
WIDE = [((8192 if CUDA else 512, 16384), (2, 8, 16))]
STAGES = [((BATCH, 64 * 2**s, 56 // 2**s, 56 // 2**s), (2, 8)) for s in range(4)]
EAGER, COMPILED = ("ours", "authors eager", "gelu", "relu"), ("ours compiled", "authors compiled")
KINDS = ((TOKENS, ("contiguous",)), (WIDE, ("contiguous",)), (STAGES, ("contiguous", "channels_last")))
CASES = [
    pytest.param(
        size, competitors, memory, provider, id=f"{'x'.join(map(str, size))}-{memory}-U{competitors}-{provider}"
    )
    for sizes, memories in KINDS
    for number, (size, every) in enumerate(sizes)
    for memory in memories
    for competitors in every
    for provider in (EAGER if number else EAGER + COMPILED)  # compiling takes longer than all else: one size of a kind
]


@pytest.mark.parametrize(("size", "competitors", "memory", "provider"), CASES)
def test_lwta(
    size: tuple[int, ...], competitors: int, memory: str, provider: str, measure: Callable[..., None]
) -> None:
    torch.compiler.reset()
    torch._functorch.config.donated_buffer = False  # a compiled backward that may run again, as this one is timed
    activation = activations(competitors)[provider]
    layout = torch.channels_last if memory == "channels_last" else torch.contiguous_format
    x, grad = (torch.randn(size, device=DEVICE, dtype=DTYPE).to(memory_format=layout) for _ in range(2))
    x.requires_grad_()

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return activation(x)

    y = activation(x)
    runs: dict[str, Callable[[], Any]] = {
        "forward": forward,
        "backward": lambda: torch.autograd.grad(y, x, grad, retain_graph=True),
        "both": lambda: torch.autograd.grad(activation(x), x, grad),
    }
    least_moved = {"forward": 2, "backward": 3, "both": 5}  # tensors read and written at the least
    for direction, run in runs.items():
        measure(
            run,
            row={
                "operation": "lwta",
                "provider": provider,
                "size": list(size),
                "memory": memory,
                "competitors": competitors,
                "direction": direction,
            },
            moved=least_moved[direction] * x.numel() * x.element_size(),
            kept=(lambda: activation(x)) if direction == "both" else None,
        )
