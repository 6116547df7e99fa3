"""Launching of kernels: the device that they run on, and what it can do."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
import triton
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def on_its_device(launch: Callable[Concatenate[Tensor, P], R]) -> Callable[Concatenate[Tensor, P], R]:
    """Decorate a launch function so that it launches on the GPU of its first argument, not on the current one."""

    @wraps(launch)
    def guarded(tensor: Tensor, *args: P.args, **kwargs: P.kwargs) -> R:
        with torch.cuda.device_of(tensor):
            return launch(tensor, *args, **kwargs)

    return guarded


def backend(x: Tensor) -> str:
    """Return what kernels on this tensor are compiled for: "cuda" or "hip".

    On a tensor of the CPU kernels run only where another driver than a GPU's has been given to Triton.
    """
    if x.is_cuda:
        return "cuda" if torch.version.hip is None else "hip"
    return str(triton.runtime.driver.active.get_current_target().backend)


def fast_math(x: Tensor) -> bool:
    """Return whether kernels on this tensor may use NVIDIA's special-function instructions: `fastmath`."""
    return backend(x) == "cuda"


def pipeline_stages(wanted: int, x: Tensor) -> int:
    """Return the stages of the pipeline that feeds a product: at most two where shared memory is AMD's 64 KB."""
    return wanted if backend(x) == "cuda" else min(wanted, 2)


def precision(x: Tensor) -> str:
    """Return the precision, by its name in Triton, in which kernels on this tensor multiply float32."""
    return "tf32x3" if backend(x) == "cuda" else "ieee"
