"""Small networks, and whether two have the same weights."""

from __future__ import annotations

import torch
from torch import nn

from lwta import LWTA


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), LWTA(2), nn.BatchNorm1d(6), nn.Linear(6, 3))


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
