"""Activations, one number per neuron and image: how the output of a layer is pooled, and what of it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lwta.winners import Winners

Pool = Literal["auto", "mean", "max", "cls"]
POOLS: tuple[Pool, ...] = get_args(Pool)


@dataclass(frozen=True)
class DenseActivations:
    """Activations of the D neurons of an ordinary layer on n images."""

    values: Tensor
    """Pooled outputs, (n, D) float32."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def neurons(self) -> int:
        """Number of neurons, D."""
        return self.values.shape[1]

    def dense(self, absent: float = 0.0) -> Tensor:
        """Return all activations, (n, D) float32; every neuron has one on every image, so ``absent`` is not used."""
        return self.values

    def select(self, mask: Tensor) -> DenseActivations:
        """Return the activations on those of the n images at which a mask (n,) is True."""
        return DenseActivations(self.values[mask])

    def not_finite(self) -> Tensor:
        """Return the images on which a value is NaN or infinite, int64 in rising order."""
        return (~torch.isfinite(self.values)).any(1).nonzero().flatten()

    @property
    def competitors(self) -> None:
        """Competitors in a block: None, as there is no competition."""
        return None

    def wins(self) -> Tensor | None:
        """Return the numbers of wins: None, as there is no competition."""
        return None

    def positions_won(self) -> Tensor | None:
        """Return the numbers of positions won: None, as there is no competition."""
        return None

    def active(self) -> Tensor:
        """Return whether each neuron is active, other than 0, on any of the images, (D,) bool."""
        return (self.values != 0).any(0)


@dataclass(frozen=True)
class WinnerActivations:
    """Wins of the D neurons of a competitive layer on n images, sorted by image, then by neuron.

    A neuron wins on an image when it wins its block at one of the layer's positions or more. Its value may be negative
    or 0: that it won is known from the layer, not from the value.
    """

    values: Tensor
    """Pooled output of each win, (E,) float32; the positions that the neuron lost count as 0."""

    units: Tensor
    """Neuron of each win, (E,) int32, 0…D−1."""

    shares: Tensor
    """Share of the image's positions that the neuron won, (E,) float32 in (0, 1]."""

    counts: Tensor
    """Number of wins on each image, (n,) int64; they add up to E."""

    neurons: int
    """Number of neurons, D."""

    competitors: int
    """Competitors in a block, U: units b·U to b·U + U − 1 are block b."""

    def __len__(self) -> int:
        return len(self.counts)

    def dense(self, absent: float = 0.0) -> Tensor:
        """Return all activations, (n, D) float32; ``absent`` where the neuron did not win on the image."""
        dense = torch.full((len(self.counts), self.neurons), absent)
        dense.view(-1)[self.cells()] = self.values
        return dense

    def select(self, mask: Tensor) -> WinnerActivations:
        """Return the wins on those of the n images at which a mask (n,) is True."""
        alike = len(self.counts) > 0 and bool((self.counts == self.counts[0]).all())
        if alike:  # rows of equal length: whole rows are copied
            rows = [part.view(len(self.counts), -1)[mask].flatten() for part in (self.values, self.units, self.shares)]
        else:
            wins = mask[self.images()]
            rows = [part[wins] for part in (self.values, self.units, self.shares)]
        values, units, shares = rows
        return WinnerActivations(
            values=values,
            units=units,
            shares=shares,
            counts=self.counts[mask],
            neurons=self.neurons,
            competitors=self.competitors,
        )

    def images(self) -> Tensor:
        """Return the image of each win, (E,) int64, 0…n−1."""
        return torch.arange(len(self.counts)).repeat_interleave(self.counts)

    def cells(self) -> Tensor:
        """Return image·D + unit of each win, (E,) int64 in rising order."""
        return self.images() * self.neurons + self.units

    def not_finite(self) -> Tensor:
        """Return the images on which a value is NaN or infinite, int64 in rising order."""
        return self.images()[~torch.isfinite(self.values)]

    def wins(self) -> Tensor:
        """Return the number of images on which each neuron won, (D,) int64."""
        return torch.bincount(self.units, minlength=self.neurons)

    def positions_won(self) -> Tensor:
        """Return the sum over the images of the share of positions that each neuron won, (D,) float64."""
        return torch.bincount(self.units, self.shares.double(), minlength=self.neurons)

    def active(self) -> Tensor:
        """Return whether each neuron is active, won on any of the images, (D,) bool."""
        return self.wins() > 0


Activations = DenseActivations | WinnerActivations


def resolve_pool(pool: Pool, ndim: int, class_token: bool) -> Pool:
    """Resolve "auto" to a pooling: the class token where there is one, else the mean over the positions.

    Args:
        pool: pooling as the user gave it.
        ndim: number of dimensions of the layer's output.
        class_token: whether the first token of the model is a class token.

    Raises:
        ValueError: ``pool`` is unknown, or "cls" for a layer that has no tokens.
    """
    if pool not in POOLS:
        raise ValueError(f"pool must be one of {', '.join(map(repr, POOLS))}, got {pool!r}")
    if pool == "cls" and ndim == 4:
        raise ValueError("pool='cls' needs the output of tokens, (N, L, D); this layer's output has 4 dimensions")
    if pool == "auto":
        return "cls" if ndim == 3 and class_token else "mean"
    return pool


@dataclass(frozen=True)
class PooledOutput:
    """Pooled output of an ordinary layer, on the device of the layer."""

    values: Tensor
    """Pooled outputs, (n, D) float32."""

    @classmethod
    def of(cls, output: Tensor, pool: Pool) -> PooledOutput:
        """Pool an output as `pool_dense` does."""
        output = output.detach()
        if output.ndim == 4:
            output = output.flatten(2).transpose(1, 2)
        elif output.ndim == 2:
            output = output.unsqueeze(1)
        if pool == "cls":
            return cls(output[:, 0].float())
        return cls(output.mean(1, dtype=torch.float32) if pool == "mean" else output.amax(1).float())

    def fetch(self) -> DenseActivations:
        """Return the activations on the CPU."""
        return DenseActivations(self.values.cpu())


@dataclass(frozen=True)
class PooledWinners:
    """Pooled winners of a competitive layer, on its device: one tensor, so that a single copy fetches them."""

    numbers: Tensor
    """Numbers of the winners, float32. For one position, (2, n, B): value and competitor of each block's winner. For
    several, (2, n, D): pooled output and share of the positions of each neuron."""
    competitors: int
    """Competitors in a block, U."""
    single: bool
    """Whether there is only one position."""

    @classmethod
    def of(cls, winners: Winners, pool: Pool) -> PooledWinners:
        """Pool winners as `pool_winners` does; the dense output of several positions is never formed."""
        images, blocks = winners.values.shape[0], winners.values.shape[-1]
        first = slice(0, 1) if pool == "cls" else slice(None)
        parts = (winners.values.detach(), winners.indices)
        values, indices = (part.reshape(images, -1, blocks)[:, first] for part in parts)
        single = values.shape[1] == 1
        pair = (
            (values[:, 0], indices[:, 0]) if single else _by_unit(Winners(values, indices, winners.competitors), pool)
        )
        return cls(torch.stack([part.float() for part in pair]), winners.competitors, single)

    def fetch(self) -> WinnerActivations:
        """Return the wins on the CPU."""
        values, others = self.numbers.cpu()
        images = len(values)
        if self.single:
            units = Winners(values, others.int(), self.competitors).units()
            neurons = units.shape[1] * self.competitors
            counts = torch.full((images,), units.shape[1])
            values = values.flatten().clone()  # not a view, which would keep both halves
            return WinnerActivations(
                values, units.flatten().int(), torch.ones(units.numel()), counts, neurons, self.competitors
            )
        won = others > 0
        return WinnerActivations(
            values[won], won.nonzero()[:, 1].int(), others[won], won.sum(1), values.shape[1], self.competitors
        )


def _by_unit(positions: Winners, pool: Pool) -> tuple[Tensor, Tensor]:
    """Pooled output and share of the positions of each unit, (n, D) each, from the winners (n, L, B)."""
    images, length, blocks = positions.values.shape
    shape = images, blocks * positions.competitors
    units, values = positions.units().flatten(1), positions.values.flatten(1).float()
    won = torch.zeros(shape, dtype=torch.int32, device=units.device)
    won.scatter_add_(1, units, torch.ones((), dtype=won.dtype, device=won.device).expand_as(units))
    zeros = torch.zeros(shape, device=units.device)
    if pool == "max":
        best = zeros.scatter_reduce_(1, units, values, "amax", include_self=False)
        return torch.where(won < length, best.clamp(min=0), best), won / length  # where a unit lost, its output is 0
    if units.is_cuda:  # there this sums in a fixed order, by sorting; scatter_add_ has float atomics
        rows = torch.arange(images, device=units.device)[:, None].expand_as(units)
        zeros.index_put_((rows, units), values, accumulate=True)
    else:
        zeros.scatter_add_(1, units, values)
    return zeros / length, won / length


def pool_dense(output: Tensor, pool: Pool) -> DenseActivations:
    """Pool the output of an ordinary layer: (n, D), tokens (n, L, D) or feature maps (n, D, H, W).

    Args:
        output: floating-point tensor on any device.
        pool: "mean" or "max" over the positions or "cls", the first token; an (n, D) output stays as it is.
    """
    return PooledOutput.of(output, pool).fetch()


def pool_winners(winners: Winners, pool: Pool) -> WinnerActivations:
    """Pool the winners of a competition, (n, …, B), over the positions between the first and the last axis.

    Args:
        winners: winners of one forward pass, on any device.
        pool: as in `pool_dense`; with "cls" only wins at the first token count.
    """
    return PooledWinners.of(winners, pool).fetch()


def average(draws: Sequence[Activations]) -> Activations:
    """Average several draws of the winners on the same images.

    A neuron won on an image if it won in one of the draws; its value and its share of the positions are the means over
    all draws, in which a draw that it lost counts as 0.

    Args:
        draws: activations of one layer in each draw, at least one.
    """
    first = draws[0]
    if len(draws) == 1:
        return first
    if isinstance(first, DenseActivations):
        return DenseActivations(torch.stack([draw.dense() for draw in draws]).mean(0))
    wins = [draw for draw in draws if isinstance(draw, WinnerActivations)]
    cells, place = torch.cat([draw.cells() for draw in wins]).unique(return_inverse=True)
    sums = torch.zeros(2, len(cells), dtype=torch.float64)
    parts = ([draw.values for draw in wins], [draw.shares for draw in wins])
    sums.index_add_(1, place, torch.stack([torch.cat(part) for part in parts]).double())
    values, shares = (sums / len(wins)).float()
    images, units = cells // first.neurons, cells % first.neurons
    counts = torch.bincount(images, minlength=len(first))
    return WinnerActivations(values, units.int(), shares, counts, first.neurons, first.competitors)
