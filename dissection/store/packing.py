"""Packing of activations into bytes and back, as small as they get without the loss of a bit."""

from __future__ import annotations

import torch
from safetensors.torch import load, save
from torch import Tensor

from lwta.dissection.recording.activations import Activations, DenseActivations, WinnerActivations

# Nothing is rounded: a stored dissection must give the labels of one in memory, and these those of the definition.
# Float32 becomes float16 only where every number of the shard is one: shares of a single position, the pooled output
# of networks that run in half precision, logits of few bits.
SMALL_INTEGERS = (torch.uint8, torch.int16, torch.int32)


def join(parts: list[Activations]) -> Activations | None:
    """Join the activations on the images of several batches, one after the other; return None for no batch."""
    if not parts:
        return None
    if isinstance(parts[0], DenseActivations):
        return DenseActivations(torch.cat([part.values for part in parts]))
    names = ("values", "units", "shares", "counts")
    return WinnerActivations(
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in names},
        neurons=parts[0].neurons,
        competitors=parts[0].competitors,
    )


def pack_activations(activations: Activations | None) -> bytes:
    """Return activations as the bytes of a safetensors file.

    It holds ``values`` for an ordinary layer; ``values``, ``units``, ``shares``, ``counts``, ``neurons`` and
    ``competitors`` for a competitive one; and no tensor for a shard without a readable image.

    Args:
        activations: activations on the readable images of a shard; None if it has none.
    """
    if activations is None:
        return save({})
    if isinstance(activations, DenseActivations):
        return save({"values": _small(activations.values)})
    tensors = {name: _small(getattr(activations, name)) for name in ("values", "units", "shares", "counts")}
    numbers = {name: torch.tensor(getattr(activations, name)) for name in ("neurons", "competitors")}
    return save({**tensors, **numbers})


def unpack_activations(data: bytes) -> Activations | None:
    """Return the activations that `pack_activations` packed; None for a shard without a readable image."""
    tensors = load(data)
    if not tensors:
        return None
    if "units" not in tensors:
        return DenseActivations(tensors["values"].float())
    return WinnerActivations(
        values=tensors["values"].float(),
        units=tensors["units"].int(),
        shares=tensors["shares"].float(),
        counts=tensors["counts"].long(),
        neurons=int(tensors["neurons"]),
        competitors=int(tensors["competitors"]),
    )


def _small(tensor: Tensor) -> Tensor:
    """Return the same numbers in the smallest type that holds them exactly."""
    tensor = tensor.contiguous()
    if tensor.is_floating_point():
        half = tensor.half()
        # compared as bits: −0 must stay −0
        return half if torch.equal(half.float().view(torch.int32), tensor.view(torch.int32)) else tensor
    largest = int(tensor.max()) if tensor.numel() else 0
    return tensor.to(next(kind for kind in SMALL_INTEGERS if largest <= torch.iinfo(kind).max))
