"""How good a network is on labelled images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lwta.batches import device_of, evaluating
from lwta.layers import EvalMode
from lwta.network import average_logits, competitions
from lwta.processes import Share
from lwta.training.distributed import sum_over


class Evaluation(NamedTuple):
    """Figures over all images."""

    top1: float
    """Share of the images whose class has the largest logit."""
    top5: float
    """Share of the images whose class is among the five largest logits."""
    loss: float
    """Mean cross-entropy."""
    images: int


def evaluate(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    draws: int = 1,
    mode: EvalMode = "sample",
    seed: int = 0,
) -> Evaluation:
    """Accuracy of a network in eval mode.

    Args:
        model: the network; with or without competition.
        loader: batches of inputs and targets (n,) int64. `Batches` that are shared among processes are evaluated by
            all of them together.
        draws: forward passes whose logits are averaged, with winners drawn anew; the authors of DISCOVER use 3 to 6.
        mode: "sample"; or "argmax" or "expected", which are deterministic and take one pass.
        seed: of the sampled winners; the global generators are left as they were.

    Raises:
        ValueError: the loader is empty, or ``draws`` less than 1.

    Example:
        >>> import torch
        >>> loader = [(torch.eye(3), torch.tensor([0, 1, 0]))]
        >>> evaluate(nn.Identity(), loader).top1
        0.6666666666666666
    """
    device = device_of(model)
    totals = torch.zeros(4, dtype=torch.float64, device=device)
    with evaluating(model, seed), _mode(model, mode):
        for inputs, targets in loader:
            inputs, targets = inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            logits = average_logits(model, inputs, draws if mode == "sample" else 1).float()
            ranked = logits.topk(min(5, logits.shape[1])).indices == targets[:, None]
            loss = F.cross_entropy(logits, targets, reduction="sum")
            totals += torch.stack([ranked[:, 0].sum(), ranked.sum(), loss, loss.new_tensor(len(targets))]).double()
    top1, top5, total, images = sum_over(getattr(loader, "share", Share()), totals).tolist()
    if not images:
        raise ValueError("loader must yield at least one batch, got none")
    return Evaluation(top1 / images, top5 / images, total / images, int(images))


@contextmanager
def _mode(model: nn.Module, mode: EvalMode) -> Iterator[None]:
    """How winners are found in eval mode, for a while."""
    before = [(layer, layer.eval_mode) for _, layer in competitions(model)]
    try:
        for layer, _ in before:
            layer.eval_mode = mode
        yield
    finally:
        for layer, own in before:
            layer.eval_mode = own
