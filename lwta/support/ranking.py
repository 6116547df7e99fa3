"""Ranking: the k largest of many numbers, where ties are decided by the identity of what they belong to."""

from __future__ import annotations

import torch
from torch import Tensor

NONE = torch.iinfo(torch.int64).min
"""Packed value that stands for no number; it is smaller than all others."""


def pack(values: Tensor, identities: Tensor) -> Tensor:
    """Pack each number and the identity of what it belongs to into one int64.

    A packed value is larger where the number is larger and, among equal numbers, where the identity is smaller. So the
    order is total, and any selection by it is unique.

    Args:
        values: float32 without NaN; −inf is packed to `NONE`.
        identities: int64, 0…2³¹−1, broadcast against ``values``.
    """
    bits = (values + 0.0).view(torch.int32)  # −0 becomes 0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()  # as integers, negative floats run backwards
    packed = (ordered << 32) | (0x7FFFFFFF - identities)
    return torch.where(torch.isneginf(values), NONE, packed)


def unpack(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Return the float32 values and int64 identities that were packed; −inf and −1 for `NONE`."""
    ordered = (packed >> 32).int()
    values = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).view(torch.float32)
    missing = packed == NONE
    return values.masked_fill(missing, float("-inf")), (0x7FFFFFFF - (packed & 0x7FFFFFFF)).masked_fill(missing, -1)


def largest(packed: Tensor, k: int) -> Tensor:
    """Return the k largest along the last axis of (…, n), in falling order, (…, min(k, n))."""
    return packed.topk(min(k, packed.shape[-1]), dim=-1).values
