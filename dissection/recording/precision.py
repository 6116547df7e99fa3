"""Precision in which networks compute."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch
from torch import nn

Precision = Literal["auto", "float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def own_type(model: nn.Module) -> torch.dtype:
    """Return the type of a network's first floating-point parameter; float32 if there is none."""
    return next((tensor.dtype for tensor in model.parameters() if tensor.is_floating_point()), torch.float32)


def resolved(precision: Precision, device: torch.device, own: torch.dtype = torch.float32) -> Precision:
    """Resolve "auto" to a precision: bfloat16 on CUDA devices that have it for networks in float32, else float32.

    Raises:
        ValueError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}")
    if precision == "auto":
        return "bfloat16" if own == torch.float32 and _has_bfloat16(device) else "float32"
    return precision


def computing(
    precision: Precision, device: torch.device, own: torch.dtype = torch.float32
) -> AbstractContextManager[object]:
    """Return a context in which networks compute in a precision: autocast, or no change for "float32".

    Args:
        precision: "auto", "float32", "bfloat16" or "float16".
        device: device of the network.
        own: type of the network's parameters, which "auto" depends on.

    Raises:
        ValueError: the precision is unknown.
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
