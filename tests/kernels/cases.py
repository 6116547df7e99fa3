"""Shapes that kernels over blocks must get right: every U that matters, every layout, odd sizes, nothing at all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

# shape, competing axis, U, memory format
CASES = [
    pytest.param((5, 48), 1, 1, "contiguous", id="U1"),
    pytest.param((5, 48), 1, 2, "contiguous", id="U2"),
    pytest.param((3, 6), 1, 2, "contiguous", id="U2-three-blocks"),
    pytest.param((5, 48), 1, 3, "contiguous", id="U3"),
    pytest.param((5, 12), 1, 4, "contiguous", id="U4-three-blocks"),
    pytest.param((2, 7, 48), 2, 8, "contiguous", id="U8-tokens"),
    pytest.param((5, 48), 1, 12, "contiguous", id="U12"),
    pytest.param((3, 96), 1, 24, "contiguous", id="U24"),
    pytest.param((2, 300), 1, 300, "contiguous", id="U300"),
    pytest.param((700, 8), 1, 8, "contiguous", id="many-programs"),
    pytest.param((0, 48), 1, 8, "contiguous", id="empty"),
    pytest.param((2, 48, 5, 5), 1, 2, "contiguous", id="nchw-U2"),
    pytest.param((2, 6, 3, 5), 1, 3, "contiguous", id="nchw-U3"),
    pytest.param((2, 32, 4, 6), 1, 8, "contiguous", id="nchw-U8"),
    pytest.param((2, 24, 7, 7), 1, 12, "contiguous", id="nchw-U12"),
    pytest.param((2, 48, 3, 3), 1, 24, "contiguous", id="nchw-U24"),
    pytest.param((0, 8, 3, 3), 1, 4, "contiguous", id="nchw-empty"),
    pytest.param((2, 48, 5, 5), 1, 2, "channels_last", id="nhwc-U2"),
    pytest.param((2, 48, 3, 3), 1, 12, "channels_last", id="nhwc-U12"),
    pytest.param((6, 4, 5), 0, 3, "contiguous", id="first-axis"),
    pytest.param((5, 48), 1, 8, "transposed", id="transposed"),
    pytest.param((5, 48), 1, 8, "sliced", id="sliced"),
    pytest.param((2, 8, 3, 4), 1, 4, "sliced", id="nchw-sliced"),
]


def make_input(
    shape: tuple[int, ...], memory: str, dtype: torch.dtype, device: torch.device, scale: float = 2.0
) -> Tensor:
    """Random responses in the given memory format."""
    if memory == "sliced":
        wide = torch.randn(*shape[:-1], shape[-1] + 3) * scale
        return wide.to(device, dtype)[..., : shape[-1]]
    x = (torch.randn(shape) * scale).to(device, dtype)
    if memory == "channels_last":
        return x.to(memory_format=torch.channels_last)
    if memory == "transposed":
        return x.t().contiguous().t()
    return x


def interpretable_dtypes() -> list[torch.dtype]:
    """Types to run kernels in: the interpreter truncates bfloat16 and cannot compute in it."""
    types = [torch.float32, torch.float16]
    return [*types, torch.bfloat16] if torch.cuda.is_available() else types
