"""The k largest of many numbers, ties decided by identity and so by nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

NONE = torch.iinfo(torch.int64).min
"""Stands for no number; smaller than every packed one."""


def pack(values: Tensor, identities: Tensor) -> Tensor:
    """One int64 for a number and the identity of what it belongs to: larger where the number is larger and, among equal
    numbers, where the identity is smaller. So their order is total, and any selection by it is unique.

    Args:
        values: float32 without NaN; −inf, on the other hand, packs to `NONE`.
        identities: int64, 0…2³¹−1, broadcast against ``values``.
    """
    bits = (values + 0.0).view(torch.int32)  # −0 becomes 0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()  # as integers, negative floats run backwards
    packed = (ordered << 32) | (0x7FFFFFFF - identities)
    return torch.where(torch.isneginf(values), NONE, packed)


def unpack(packed: Tensor) -> tuple[Tensor, Tensor]:
    """The float32 values and int64 identities that were packed; −inf and −1 for `NONE`."""
    ordered = (packed >> 32).int()
    values = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).view(torch.float32)
    missing = packed == NONE
    return values.masked_fill(missing, float("-inf")), (0x7FFFFFFF - (packed & 0x7FFFFFFF)).masked_fill(missing, -1)


def largest(packed: Tensor, k: int) -> Tensor:
    """(…, min(k, n)): the k largest of the last axis of (…, n), in falling order."""
    return packed.topk(min(k, packed.shape[-1]), dim=-1).values
