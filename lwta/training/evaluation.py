"""Evaluation of networks on labelled images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lwta.competition import EvalMode
from lwta.network import average_logits, competitions
from lwta.support.processes import Group
from lwta.support.running import device_of, evaluating
from lwta.support.seeds import seeded

_LEFT_OUT = -100  # ignore_index of `torch.nn.functional.cross_entropy`


class Evaluation(NamedTuple):
    """Figures of a network over all images.

    Example:
        >>> evaluate(nn.Identity(), [(torch.eye(3), torch.tensor([0, 1, 0]))], mode="argmax").images
        3
    """

    top1: float
    """Share of the images whose class has the largest logit."""
    top5: float
    """Share of the images whose class is among the five largest logits."""
    loss: float
    """Mean cross-entropy over the images."""
    images: int
    """Number of images."""


def evaluate(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    draws: int = 1,
    mode: EvalMode = "sample",
    seed: int = 0,
) -> Evaluation:
    """Return accuracy and loss of a network in eval mode on labelled images.

    Args:
        model: the network, with or without competition.
        loader: batches of inputs and targets (n,) int64. `Batches` that are shared among processes are evaluated by
            all of them together.
        draws: forward passes whose logits are averaged, with winners drawn anew; the authors of DISCOVER use 3 to 6.
        mode: "sample"; or "argmax" or "expected", which are deterministic and take one pass.
        seed: seed of the sampled winners; the global generators are left as they were.

    Raises:
        ValueError: the loader is empty, ``draws`` is less than 1, or a label is not the index of an output.

    Example:
        >>> import torch
        >>> loader = [(torch.eye(3), torch.tensor([0, 1, 0]))]
        >>> evaluate(nn.Identity(), loader).top1
        0.6666666666666666
    """
    totals = torch.zeros(4, dtype=torch.float64, device=device_of(model))
    with evaluating(model) as device, seeded(seed, device), torch.inference_mode(), _mode(model, mode):
        for inputs, labels in loader:
            targets = labels.to(device, non_blocking=True)
            logits = average_logits(
                model, inputs.to(device, non_blocking=True), draws if mode == "sample" else 1
            ).float()
            check_labels(labels, logits.shape[1])
            ranked = logits.topk(min(5, logits.shape[1])).indices == targets[:, None]
            loss = F.cross_entropy(logits, targets, reduction="sum")
            totals += torch.stack([ranked[:, 0].sum(), ranked.sum(), loss, loss.new_tensor(len(targets))]).double()
    top1, top5, total, images = getattr(loader, "group", Group()).sum(totals).tolist()
    if not images:
        raise ValueError("loader must yield at least one batch, got none")
    return Evaluation(top1 / images, top5 / images, total / images, int(images))


def check_labels(labels: Tensor, outputs: int) -> None:
    """Raise ValueError unless each label is the index of an output, or −100, which PyTorch's losses ignore.

    Labels on a GPU are not checked, since that would wait for it.
    """
    if labels.is_floating_point() or not labels.is_cpu:
        return
    wrong = labels[((labels < 0) | (labels >= outputs)) & (labels != _LEFT_OUT)]
    if len(wrong):
        raise ValueError(f"labels must lie in 0…{outputs - 1}, as the network has {outputs} outputs, got {wrong[0]}")


@contextmanager
def _mode(model: nn.Module, mode: EvalMode) -> Iterator[None]:
    """Context in which all competitive layers find their winners in this mode; afterwards each has its own again."""
    before = [(layer, layer.eval_mode) for _, layer in competitions(model)]
    try:
        for layer, _ in before:
            layer.eval_mode = mode
        yield
    finally:
        for layer, own in before:
            layer.eval_mode = own
