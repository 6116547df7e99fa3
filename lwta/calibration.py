"""Calibration of batch norms for winners that are found without noise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lwta.checks import check_eval_mode
from lwta.competition import EvalMode
from lwta.network import competitions
from lwta.support.running import evaluating, inputs_of
from lwta.support.seeds import seeded


def calibrate(
    model: nn.Module, loader: Iterable[Any], *, mode: EvalMode = "argmax", batches: int | None = None, seed: int = 0
) -> nn.Module:
    """Prepare, in place, a network that was trained with sampled winners for another mode of evaluation.

    All competitive layers are set to the mode, and the statistics of all batch norms are measured anew with it: the
    largest response of a block is larger than the sampled one, layer upon layer, so the running statistics of training
    do not hold under argmax. No weight changes. On a trained network this regains over half of the accuracy that argmax
    loses against sampling (``python -m benchmarks accuracy``). In a network without batch norms only the mode changes.

    Args:
        model: network with competitive layers.
        loader: batches of training images as in evaluation, not augmented; tensors, or sequences that begin with one. A
            thousand images in batches of a hundred are enough.
        mode: "argmax" or "expected", or "sample" to go back.
        batches: number of batches to use; None means all.
        seed: seed of sampled winners.

    Returns:
        ``model`` itself.

    Raises:
        ValueError: ``mode`` is none of the three, no layer competes, or the loader is empty.
        TypeError: a batch is neither a tensor nor a sequence that begins with one.

    Example:
        >>> import torch
        >>> from lwta import LWTA
        >>> model = nn.Sequential(nn.Linear(4, 8), LWTA(2), nn.BatchNorm1d(8))
        >>> calibrate(model, [torch.randn(100, 4)])[1]
        LWTA(competitors=2, eval_mode='argmax')
    """
    check_eval_mode(mode)
    layers = [layer for _, layer in competitions(model)]
    if not layers:
        raise ValueError(f"model must have competitive layers, but {type(model).__name__} has none; see lwta.convert")
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for layer in layers:
        layer.eval_mode = mode
    try:
        with evaluating(model) as device, seeded(seed, device), torch.inference_mode():
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the mean over batches
                norm.train()
            for inputs in inputs_of(loader, device, batches):
                model(inputs)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return model
