"""What is measured side by side: this library, the authors' formulation, the same compiled, and the floor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lwta import LWTAMlp, functional

Activation = Callable[[Tensor], Tensor]


def authors_lwta(x: Tensor, competitors: int, temperature: float = 1.67, eps: float = 1e-8) -> Tensor:
    """The published activation, written out: Gumbel noise from uniforms, softmax, one-hot, straight-through."""
    axis = 1 if x.ndim == 4 else x.ndim - 1
    h, competing = x.unflatten(axis, (-1, competitors)), axis + 1
    gumbel = -torch.log(eps - torch.log(torch.rand_like(h) + eps))
    soft = F.softmax((h + gumbel) / temperature, dim=competing)
    hard = torch.zeros_like(soft).scatter_(competing, soft.max(competing, keepdim=True).indices, 1.0)
    return ((hard - soft.detach() + soft) * h).flatten(axis, competing)


def activations(competitors: int) -> dict[str, Activation]:
    """Activations by provider; "ours" comes first, and what it is compared with after."""

    def authors(x: Tensor) -> Tensor:
        return authors_lwta(x, competitors)

    def ours(x: Tensor) -> Tensor:
        return functional.lwta(x, competitors)

    return {
        "ours": ours,
        "ours compiled": torch.compile(ours),
        "authors eager": authors,
        "authors compiled": torch.compile(authors),
        "gelu": F.gelu,
        "relu": F.relu,
    }


class _Mlp(nn.Module):
    """Two linear layers with an activation between."""

    def __init__(self, features: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.fc1, self.fc2, self.activation = nn.Linear(features, hidden), nn.Linear(hidden, features), activation

    def forward(self, x: Tensor) -> Tensor:
        """(…, features) to the same."""
        return self.fc2(self.activation(self.fc1(x)))


def mlps(features: int, hidden: int, competitors: int) -> dict[str, nn.Module]:
    """Perceptrons of a transformer block by provider."""
    return {
        "ours": LWTAMlp(features, hidden, competitors=competitors),
        "ours dense": _Mlp(features, hidden, lambda x: functional.lwta(x, competitors)),
        "authors eager": _Mlp(features, hidden, lambda x: authors_lwta(x, competitors)),
        "gelu": _Mlp(features, hidden, F.gelu),
        "gelu compiled": torch.compile(_Mlp(features, hidden, F.gelu)),
    }
