"""In which type networks compute."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch
from torch import nn

Precision = Literal["auto", "float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def own_type(model: nn.Module) -> torch.dtype:
    """Type of the parameters of a network: of the first that has a floating-point one."""
    return next((tensor.dtype for tensor in model.parameters() if tensor.is_floating_point()), torch.float32)


def resolved(precision: Precision, device: torch.device, own: torch.dtype = torch.float32) -> Precision:
    """What "auto" stands for: bfloat16 on CUDA devices that compute in it, if the network's own type is float32.

    Raises:
        ValueError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}")
    if precision == "auto":
        return "bfloat16" if own == torch.float32 and _has_bfloat16(device) else "float32"
    return precision


def computing(
    precision: Precision, device: torch.device, own: torch.dtype = torch.float32
) -> AbstractContextManager[object]:
    """A context in which networks compute as ``precision`` says: autocast, or none for "float32".

    Args:
        precision: as in `resolved`.
        device: where.
        own: type of the network's parameters.

    Raises:
        ValueError: an unknown precision.
    """
    precision = resolved(precision, device, own)
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, precision))


def _has_bfloat16(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)
