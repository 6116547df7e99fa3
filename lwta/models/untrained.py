"""Untrained copies of networks, to compare what labels say of them with what they say of the trained ones."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import nn

from lwta.support.seeds import all_seeded


def untrained(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy of a network with its parameters and buffers drawn as before training.

    Every module that has a method ``reset_parameters``, as those of PyTorch have, draws its own anew. What no module
    resets, such as position embeddings, is drawn from a normal distribution of the same mean and deviation.

    Args:
        model: any network; it stays as it is.
        seed: seed of the draws.

    Warns:
        UserWarning: parameters were drawn by mean and deviation; they are named.

    Example:
        >>> linear = nn.Linear(2, 2)
        >>> torch.equal(untrained(linear, seed=1).weight, linear.weight)
        False
    """
    fresh = copy.deepcopy(model)
    reset: set[int] = set()
    with all_seeded(seed), torch.no_grad():
        for module in fresh.modules():
            method = getattr(module, "reset_parameters", None)
            if callable(method):
                method()
                reset |= {id(parameter) for parameter in module.parameters(recurse=False)}
        others = [(name, parameter) for name, parameter in fresh.named_parameters() if id(parameter) not in reset]
        for _, parameter in others:
            deviation = parameter.std(correction=0).item() if parameter.numel() > 1 else 0.0
            parameter.normal_(parameter.mean().item(), deviation)
    if others:
        names = ", ".join(name for name, _ in others[:5])
        warnings.warn(
            f"untrained: {len(others)} parameters have no initialisation of their own and were drawn by their mean and "
            f"deviation: {names}{', …' if len(others) > 5 else ''}",
            stacklevel=2,
        )
    return fresh
