"""One number per neuron and image: how the output of a layer is pooled, and what of it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lwta import Winners

Pool = Literal["auto", "mean", "max", "cls"]
POOLS: tuple[Pool, ...] = get_args(Pool)


@dataclass(frozen=True)
class DenseActivations:
    """What the D neurons of an ordinary layer answer to n images."""

    values: Tensor
    """(n, D) float32."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def neurons(self) -> int:
        """D."""
        return self.values.shape[1]

    def dense(self, absent: float = 0.0) -> Tensor:
        """(n, D) float32; every neuron answers every image, so ``absent`` is used nowhere."""
        return self.values

    def wins(self) -> Tensor | None:
        """None: without competition nobody wins."""
        return None

    def positions_won(self) -> Tensor | None:
        """None, as `wins`."""
        return None

    def answered(self) -> Tensor:
        """(D,) bool: whether each neuron was other than 0 on any of the images."""
        return (self.values != 0).any(0)


@dataclass(frozen=True)
class WinnerActivations:
    """The wins of the D neurons of a competition on n images, image by image and by neuron within an image.

    A neuron wins on an image when it wins its block at one of the layer's positions or more. Its value may be negative
    or 0: that it won is known from the layer, not from the value.
    """

    values: Tensor
    """(E,) float32: pooled output of each win; the positions that the neuron lost count as 0."""

    units: Tensor
    """(E,) int32: the neuron that won, 0…D−1."""

    shares: Tensor
    """(E,) float32: share of the image's positions that it won, in (0, 1]."""

    counts: Tensor
    """(n,) int64: wins on each image; they add up to E."""

    neurons: int
    """D."""

    def __len__(self) -> int:
        return len(self.counts)

    def dense(self, absent: float = 0.0) -> Tensor:
        """(n, D) float32, ``absent`` where the neuron did not win on the image."""
        images = torch.arange(len(self.counts)).repeat_interleave(self.counts)
        dense = torch.full((len(self.counts), self.neurons), absent)
        dense[images, self.units.long()] = self.values
        return dense

    def wins(self) -> Tensor:
        """(D,) int64: on how many of the images each neuron won."""
        return torch.bincount(self.units, minlength=self.neurons)

    def positions_won(self) -> Tensor:
        """(D,) float64: sum over the images of the share of positions that each neuron won."""
        return torch.bincount(self.units, self.shares.double(), minlength=self.neurons)

    def answered(self) -> Tensor:
        """(D,) bool: whether each neuron won on any of the images."""
        return self.wins() > 0


Activations = DenseActivations | WinnerActivations


def resolve_pool(pool: Pool, ndim: int, class_token: bool) -> Pool:
    """The pooling that "auto" stands for: the mean over positions, but the class token where there is one.

    Args:
        pool: as the user gave it.
        ndim: number of dimensions of the layer's output.
        class_token: whether the first token of the model is a class token.

    Raises:
        ValueError: ``pool`` is unknown, or asks for the class token of a layer that has no tokens.
    """
    if pool not in POOLS:
        raise ValueError(f"pool must be one of {', '.join(map(repr, POOLS))}, got {pool!r}")
    if pool == "cls" and ndim == 4:
        raise ValueError("pool='cls' needs the output of tokens, (N, L, D); this layer's output has 4 dimensions")
    if pool == "auto":
        return "cls" if ndim == 3 and class_token else "mean"
    return pool


def _over_positions(positions: Tensor, pool: Pool) -> Tensor:
    """(n, L, D) to (n, D) float32."""
    if pool == "cls":
        return positions[:, 0].float()
    return positions.float().mean(1) if pool == "mean" else positions.amax(1).float()


def pool_dense(output: Tensor, pool: Pool) -> DenseActivations:
    """Pool the output of an ordinary layer: (n, D), tokens (n, L, D) or feature maps (n, D, H, W).

    Args:
        output: floating-point tensor on any device.
        pool: "mean" or "max" over the positions or "cls", the first token; an (n, D) output stays as it is.
    """
    if output.ndim == 4:
        output = output.flatten(2).transpose(1, 2)
    elif output.ndim == 2:
        output = output.unsqueeze(1)
    return DenseActivations(_over_positions(output.detach(), pool).cpu())


def pool_winners(winners: Winners, pool: Pool) -> WinnerActivations:
    """Pool the winners of a competition, (n, …, B), over the positions between the first and the last axis.

    Args:
        winners: of one forward, on any device.
        pool: as in `pool_dense`; with "cls" only wins at the first token count.
    """
    images, blocks = winners.values.shape[0], winners.values.shape[-1]
    neurons = blocks * winners.competitors
    first = slice(0, 1) if pool == "cls" else slice(None)
    parts = (winners.values.detach(), winners.indices)
    values, indices = (part.reshape(images, -1, blocks)[:, first] for part in parts)
    positions = Winners(values, indices, winners.competitors)

    units = positions.units().flatten(1)
    won = torch.zeros(images, neurons, dtype=torch.int32, device=units.device)
    won.scatter_add_(1, units, torch.ones_like(units, dtype=torch.int32))
    pooled = _over_positions(positions.to_dense(), pool)
    mask = won > 0
    return WinnerActivations(
        values=pooled[mask].cpu(),
        units=mask.nonzero()[:, 1].int().cpu(),
        shares=(won[mask] / values.shape[1]).cpu(),
        counts=mask.sum(1).cpu(),
        neurons=neurons,
    )
