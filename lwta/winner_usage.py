"""Usage of the competitions of a network over many images, that is, how often each unit wins."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lwta.competition import Competition
from lwta.network import competitions
from lwta.support.running import evaluating, inputs_of
from lwta.support.seeds import seeded
from lwta.support.tables import Column, text_table
from lwta.winners import Winners

_EVIDENCE = 10  # competitions per competitor from which on a block that one unit always won counts as collapsed


def entropy_of(shares: Tensor) -> Tensor:
    """Return the entropy of (B, U) shares of wins over log U: (B,) float64, 0 if one wins all, 1 if all win alike."""
    competitors = shares.shape[1]
    if competitors == 1:
        return torch.ones(len(shares), dtype=torch.float64)
    return (torch.special.entr(shares).sum(1) / math.log(competitors)).clamp(0, 1)


class LayerUsage(NamedTuple):
    """Usage of one layer: how often each of its units won."""

    layer: str
    """Name of the layer."""
    wins: Tensor
    """Number of wins of each unit, (B, U) int64."""
    active: float
    """Share of the outputs that were not 0: at most 1/U, less where winners responded with 0."""
    kl: float
    """Mean KL(π ‖ uniform) of the blocks, in nats: 0 for a fair competition, log U for one decided in advance."""

    @property
    def competitors(self) -> int:
        """Number of competitors in a block, U."""
        return self.wins.shape[1]

    @property
    def shares(self) -> Tensor:
        """Share of its block's competitions that each unit won, (B, U) float64."""
        return self.wins.double() / self.wins.sum(1, keepdim=True)

    @property
    def entropy(self) -> Tensor:
        """Entropy of the shares of each block over log U, (B,) float64: 0 if one unit wins all, 1 if all win alike."""
        return entropy_of(self.shares)

    @property
    def dead(self) -> list[int]:
        """Indices, 0…K−1, of the units that never won."""
        return (self.wins.flatten() == 0).nonzero().flatten().tolist()

    @property
    def collapsed(self) -> list[int]:
        """Indices of the blocks in which one unit won every one of at least 10·U competitions."""
        total = self.wins.sum(1)
        one_wins = (self.wins.amax(1) == total) & (total >= _EVIDENCE * self.competitors) & (self.competitors > 1)
        return one_wins.nonzero().flatten().tolist()


@dataclass(frozen=True)
class Usage:
    """Usage of every competitive layer of a network; as text, a table.

    Example:
        >>> from lwta import LWTA
        >>> usage(LWTA(2, eval_mode="argmax"), [torch.tensor([[1.0, 2.0]])]).layers[0].wins.tolist()
        [[0, 1]]
    """

    layers: tuple[LayerUsage, ...]
    """Usage of each layer, in the order of the layers."""

    @property
    def active(self) -> float:
        """Mean over layers of the share of active units."""
        return sum(layer.active for layer in self.layers) / len(self.layers)

    @property
    def entropy(self) -> float:
        """Mean over all blocks of the winner entropy."""
        return torch.cat([layer.entropy for layer in self.layers]).mean().item()

    @property
    def dead(self) -> int:
        """Number of units that never won."""
        return sum(len(layer.dead) for layer in self.layers)

    @property
    def units(self) -> int:
        """Number of units that compete."""
        return sum(layer.wins.numel() for layer in self.layers)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return the figures of each layer by its name, as types that JSON can hold."""
        return {
            layer.layer: {
                "competitors": layer.competitors,
                "active": layer.active,
                "kl": layer.kl,
                "wins": layer.wins.tolist(),
                "entropy": layer.entropy.tolist(),
                "dead": layer.dead,
                "collapsed": layer.collapsed,
            }
            for layer in self.layers
        }

    def __str__(self) -> str:
        figures = {
            "U": [str(layer.competitors) for layer in self.layers],
            "blocks": [str(len(layer.wins)) for layer in self.layers],
            "active": [f"{layer.active:.1%}" for layer in self.layers],
            "entropy": [f"{layer.entropy.mean():.3f}" for layer in self.layers],
            "lowest": [f"{layer.entropy.min():.3f}" for layer in self.layers],
            "dead": [str(len(layer.dead)) for layer in self.layers],
            "collapsed": [str(len(layer.collapsed)) for layer in self.layers],
            "KL": [f"{layer.kl:.3f}" for layer in self.layers],
        }
        columns = [Column(heading, cells, right=True) for heading, cells in figures.items()]
        return text_table([Column("layer", [layer.layer for layer in self.layers]), *columns])


def usage(model: nn.Module, loader: Iterable[Any], *, batches: int | None = None, seed: int = 0) -> Usage:
    """Measure how often each unit of a network wins in eval mode, with the winners that its layers find in that mode.

    Args:
        model: a network with competitive layers.
        loader: batches: tensors, or sequences that begin with one, such as (images, labels).
        batches: number of batches to use; None means all.
        seed: seed of the sampled winners; the global generators are left as they were.

    Returns:
        A `Usage`: for each layer how often each unit won, the winner entropy of each block, dead units, the share of
        active units and the KL to uniform.

    Warns:
        RuntimeWarning: in some blocks of a layer one unit always wins, which means that the competition has collapsed.

    Raises:
        ValueError: no layer competes, or the loader is empty.
        TypeError: a batch is neither a tensor nor a sequence that begins with one.

    Example:
        >>> from lwta import LWTA
        >>> model = nn.Sequential(nn.Linear(4, 8), LWTA(2))
        >>> used = usage(model, [torch.randn(100, 4)])
        >>> used.active, used.layers[0].wins.sum(1).tolist()
        (0.5, [100, 100, 100, 100])
    """
    layers = list(competitions(model))
    if not layers:
        raise ValueError(f"model must have competitive layers, but {type(model).__name__} has none; see lwta.convert")
    counters = [_Counter(name, layer) for name, layer in layers]
    with evaluating(model) as device, seeded(seed, device), torch.inference_mode(), _watched(counters):
        for inputs in inputs_of(loader, device, batches):
            model(inputs)
            for counter in counters:
                counter.take_kl()
    found = Usage(tuple(counter.result() for counter in counters if counter.forwards))
    _warn_of_collapse(found)
    return found


class _Counter:
    """Counter of the figures of one layer, which are collected by hooks."""

    def __init__(self, name: str, layer: Competition) -> None:
        self.name, self.layer = name, layer
        self.wins: Tensor | None = None
        self.outputs = self.nonzero = self.kl = torch.zeros((), dtype=torch.float64)
        self.forwards = 0

    def on_winners(self, layer: Competition, winners: Winners) -> None:
        blocks, U = winners.indices.shape[-1], winners.competitors
        first = torch.arange(blocks, device=winners.indices.device) * U
        units = winners.indices.long() + first
        wins = torch.bincount(units.flatten(), minlength=blocks * U).view(blocks, U)
        self.wins = wins if self.wins is None else self.wins + wins

    def on_output(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        self.outputs = self.outputs + output.numel()
        self.nonzero = self.nonzero + output.count_nonzero().cpu()

    def take_kl(self) -> None:
        if self.layer.kl is not None:
            self.kl = self.kl + self.layer.kl.double().cpu()
            self.forwards += 1

    def result(self) -> LayerUsage:
        wins = torch.empty(0, self.layer.competitors) if self.wins is None else self.wins.cpu()
        return LayerUsage(self.name, wins, (self.nonzero / self.outputs).item(), (self.kl / self.forwards).item())


@contextmanager
def _watched(counters: list[_Counter]) -> Iterator[None]:
    """Context in which the counters are hooked to their layers, which also compute their KL."""
    tracked = [counter.layer.track_kl for counter in counters]
    handles = []
    try:
        for counter in counters:
            counter.layer.track_kl, counter.layer.kl = True, None
            handles.append(counter.layer.register_winners_hook(counter.on_winners))
            handles.append(counter.layer.register_forward_hook(counter.on_output))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for counter, before in zip(counters, tracked, strict=True):
            counter.layer.track_kl, counter.layer.kl = before, None


def _warn_of_collapse(found: Usage) -> None:
    """Warn of layers in which some blocks have collapsed."""
    collapsed = [
        f"{layer.layer} ({len(layer.collapsed)} of {len(layer.wins)} blocks)"
        for layer in found.layers
        if layer.collapsed
    ]
    if collapsed:
        warnings.warn(
            f"one unit always wins in {', '.join(collapsed)}: its competitors learn little there; a KL weight "
            "(lwta.ELBOLoss) or a normalisation before the competition counters this",
            RuntimeWarning,
            stacklevel=3,
        )
