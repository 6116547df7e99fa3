"""Shapes that kernels over blocks must get right: every U that matters, every layout, odd sizes, nothing at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ptx import Options, executing
from ptx.driver import TARGETS
from tests.support import executions

KERNEL_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
DTYPES = (*KERNEL_DTYPES, torch.float64)

KERNELS = ("gpu",) if torch.cuda.is_available() else tuple(TARGETS)
"""Ways to run a kernel: on a GPU, or compiled for a target and executed on the CPU."""


class Case(NamedTuple):
    """Responses: their shape, the competing axis, the competitors of a block and the memory format."""

    name: str
    shape: tuple[int, ...]
    dim: int
    competitors: int
    memory: str

    def responses(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
        """Random responses."""
        if self.memory == "sliced":
            wide = torch.randn(*self.shape[:-1], self.shape[-1] + 3) * 2
            return wide.to(device, dtype)[..., : self.shape[-1]]
        x = (torch.randn(self.shape) * 2).to(device, dtype)
        if self.memory == "channels_last":
            return x.to(memory_format=torch.channels_last)
        return x.t().contiguous().t() if self.memory == "transposed" else x


CASES = [
    Case("U1", (5, 48), 1, 1, "contiguous"),
    Case("U2", (5, 48), 1, 2, "contiguous"),
    Case("U2-three-blocks", (3, 6), 1, 2, "contiguous"),
    Case("U3", (5, 48), 1, 3, "contiguous"),
    Case("U4-three-blocks", (5, 12), 1, 4, "contiguous"),
    Case("U8-tokens", (2, 7, 48), 2, 8, "contiguous"),
    Case("U12", (5, 48), 1, 12, "contiguous"),
    Case("U24", (3, 96), 1, 24, "contiguous"),
    Case("U300", (2, 300), 1, 300, "contiguous"),
    Case("many-programs", (700, 8), 1, 8, "contiguous"),
    Case("empty", (0, 48), 1, 8, "contiguous"),
    Case("nchw-U2", (2, 48, 5, 5), 1, 2, "contiguous"),
    Case("nchw-U3", (2, 6, 3, 5), 1, 3, "contiguous"),
    Case("nchw-U8", (2, 32, 4, 6), 1, 8, "contiguous"),
    Case("nchw-U12", (2, 24, 7, 7), 1, 12, "contiguous"),
    Case("nchw-U24", (2, 48, 3, 3), 1, 24, "contiguous"),
    Case("nchw-empty", (0, 8, 3, 3), 1, 4, "contiguous"),
    Case("nhwc-U2", (2, 48, 5, 5), 1, 2, "channels_last"),
    Case("nhwc-U12", (2, 48, 3, 3), 1, 12, "channels_last"),
    Case("first-axis", (6, 4, 5), 0, 3, "contiguous"),
    Case("transposed", (5, 48), 1, 8, "transposed"),
    Case("sliced", (5, 48), 1, 8, "sliced"),
    Case("nchw-sliced", (2, 8, 3, 4), 1, 4, "sliced"),
]


@contextmanager
def running(path: str, options: Options | None = None) -> Iterator[None]:
    """Run kernels, while entered, as a path says: executed on the CPU if it names a target; else nothing changes."""
    if path not in TARGETS:
        yield
        return
    with executing(path, options) as session:
        yield
    executions.note(session)


def place_of(path: str) -> torch.device:
    """Where the tensors of a path must be: on the GPU for its kernels, and else on the CPU."""
    return torch.device("cuda" if path == "gpu" else "cpu")


def label(value: Any) -> str:
    """Name of a parameter in the id of a test."""
    if isinstance(value, Case):
        return value.name
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    return str(getattr(value, "__name__", value))


def runs_in(path: str, dtype: torch.dtype) -> bool:
    """Whether an implementation computes in this type: kernels leave float64 to the definitions."""
    return path not in KERNELS or dtype in KERNEL_DTYPES
