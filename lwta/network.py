"""Functions on all competitive layers of a network at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lwta.checks import check_eval_mode, check_temperature
from lwta.competition import Competition, EvalMode


def competitions(model: nn.Module) -> Iterator[tuple[str, Competition]]:
    """Yield name and module of every competitive layer, in the order of ``model.named_modules()``.

    Example:
        >>> [name for name, layer in competitions(nn.Sequential(nn.Linear(4, 8), LWTA(2)))]
        ['1']
    """
    for name, module in model.named_modules():
        if isinstance(module, Competition):
            yield name, module


def _require_competitions(model: nn.Module) -> list[tuple[str, Competition]]:
    """Return name and module of every competitive layer; raise ValueError if there is none."""
    layers = list(competitions(model))
    if not layers:
        raise ValueError(f"model must have competitive layers, but {type(model).__name__} has none; see lwta.convert")
    return layers


def kl_divergence(model: nn.Module) -> Tensor:
    """Return the sum over layers of the KL to uniform at their last forward: the regulariser of the ELBO, in nats.

    Returns:
        0-dim tensor with gradient.

    Raises:
        ValueError: the model has no competitive layer, none has ``track_kl``, or one that has it has seen no forward
            pass yet.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), LWTA(2, track_kl=True))
        >>> loss = model(torch.randn(3, 4)).square().mean() + 0.1 * kl_divergence(model)
    """
    tracked = [(name, layer) for name, layer in _require_competitions(model) if layer.track_kl]
    if not tracked:
        raise ValueError("no layer of the model tracks its KL; build the layers with track_kl=True")
    divergences = []
    for name, layer in tracked:
        if layer.kl is None:
            raise ValueError(f"layer {name!r} has no KL yet; run a forward pass first")
        divergences.append(layer.kl)
    return torch.stack([kl.to(divergences[0].device) for kl in divergences]).sum()


def set_temperature(model: nn.Module, temperature: float) -> None:
    """Set the temperature τ of every competitive layer.

    Raises:
        ValueError: ``temperature`` is not positive and finite, or there is no such layer.

    Example:
        >>> layer = LWTA(2)
        >>> set_temperature(layer, 0.5)
        >>> layer
        LWTA(competitors=2, temperature=0.5)
    """
    check_temperature(temperature)
    for _, layer in _require_competitions(model):
        layer.temperature = float(temperature)  # a compiled network is compiled anew for another type


def set_eval_mode(model: nn.Module, mode: EvalMode) -> None:
    """Set the behaviour of every competitive layer in eval mode: "sample", "argmax" or "expected", as in `LWTA`.

    Raises:
        ValueError: ``mode`` is none of the three, or the model has no such layer.

    Example:
        >>> layer = LWTA(2)
        >>> set_eval_mode(layer, "argmax")
        >>> layer
        LWTA(competitors=2, eval_mode='argmax')
    """
    check_eval_mode(mode)
    for _, layer in _require_competitions(model):
        layer.eval_mode = mode


def average_logits(model: nn.Module, x: Tensor, draws: int = 6) -> Tensor:
    """Return the mean of the model's outputs over independent draws of the winners.

    Args:
        model: a network in the mode in which it should run; in eval mode its layers should sample.
        x: one batch of inputs.
        draws: forward passes, at least 1; the authors of the method use 3 to 6.

    Returns:
        Shape of ``model(x)``.

    Raises:
        ValueError: ``draws`` is less than 1.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), LWTA(2)).eval()
        >>> average_logits(model, torch.randn(3, 4), draws=4).shape
        torch.Size([3, 8])
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    total = model(x)
    for _ in range(draws - 1):
        total = total + model(x)
    return total / draws
