"""What a launch asks of the device that it runs on."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def on_its_device(launch: Callable[Concatenate[Tensor, P], R]) -> Callable[Concatenate[Tensor, P], R]:
    """Let a launch function launch on the GPU of its first argument: Triton takes the current one, whatever it is."""

    @wraps(launch)
    def guarded(tensor: Tensor, *args: P.args, **kwargs: P.kwargs) -> R:
        with torch.cuda.device_of(tensor):
            return launch(tensor, *args, **kwargs)

    return guarded


def fast_math(x: Tensor) -> bool:
    """Whether kernels on this tensor may use NVIDIA's special-function instructions: `fastmath`."""
    return x.is_cuda and torch.version.cuda is not None


def pipeline_stages(wanted: int) -> int:
    """Stages of the pipeline that feeds a product: two where shared memory is AMD's 64 KB."""
    return wanted if torch.version.hip is None else min(wanted, 2)
