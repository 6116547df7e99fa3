"""Exact sums by fold, shard by shard: what `Moments` are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import Self

from lwta.dissection.moments.exact_sums import GRID, ExactGram, ExactProduct, Winning
from lwta.dissection.recording.activations import Activations, WinnerActivations
from lwta.dissection.recording.recording import Shard

ONE = 2.0**-GRID
"""Stand-in for 1 in products: it is the integer 1 of `ExactProduct`, so that carries are rare."""
SHARE = 2.0**-25
"""Share of the largest number below which others are negligible in AᵀF: two products then do for any column, and cut
off no more than float32 does. Covariances are differences, in which a mean far from 0 leaves what was cut off."""
FINE = 2.0**-40
"""Share of the largest number below which others are negligible in Σa and Σa², whose difference is the variance."""


class ProbeSums:
    """Number of images, ΣF and FᵀF of each fold: the same for all layers of a probing set.

    Args:
        folds: number of folds.
    """

    def __init__(self, folds: int) -> None:
        self._grams = [ExactGram() for _ in range(folds)]
        self._counts = torch.zeros(folds, dtype=torch.float64)
        self._width = 0

    def add(self, fold: int, features: Tensor) -> None:
        """Add images (n, d) of a fold."""
        self._counts[fold] += len(features)
        self._width = features.shape[1]
        self._grams[fold].add(_with_one(features))

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""
        self._counts += other._counts
        self._width = max(self._width, other._width)
        for gram, more in zip(self._grams, other._grams, strict=True):
            gram.merge(more)

    def totals(self) -> dict[str, Tensor]:
        """Return ``counts``, ``features`` and ``gram`` as `Moments` has them."""
        width = self._width
        grams = torch.zeros(len(self._grams), width + 1, width + 1, dtype=torch.float64)
        for fold, gram in enumerate(self._grams):
            if self._counts[fold]:
                grams[fold] = gram.total()
        return {
            "counts": self._counts.clone(),
            "features": grams[:, -1, :-1] / ONE,
            "gram": grams[:, :-1, :-1].contiguous(),
        }

    def state(self) -> dict[str, Tensor]:
        """Return the sums as tensors by name, from which `restore` makes them again."""
        parts = _named("gram", [gram.state() for gram in self._grams])
        return {"counts": self._counts.clone(), "width": torch.tensor(self._width), **parts}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over the sums whose `state` this was."""
        self._counts, self._width = state["counts"].clone(), int(state["width"])
        for fold, gram in enumerate(self._grams):
            gram.restore(_of(state, f"gram.{fold}."))


class LayerSums:
    """Σa, Σa² and AᵀF of each fold, of one layer.

    Args:
        folds: number of folds.
    """

    def __init__(self, folds: int) -> None:
        self._products = [ExactProduct(SHARE) for _ in range(folds)]  # AᵀF, (D, d)
        self._sums = [ExactProduct(FINE) for _ in range(folds)]  # Σa·ONE, (D, 1)
        self._squares = [ExactProduct(FINE) for _ in range(folds)]  # Σa²·ONE, (D, 1)
        self._shape = (0, 0)

    def add(self, fold: int, activations: Activations, features: Tensor) -> None:
        """Add images of a fold: activations of D neurons, and embeddings (n, d)."""
        rows = rows_of(activations)
        squared = rows.with_values(rows.values.square()) if isinstance(rows, Winning) else rows.double().square()
        self._shape = (activations.neurons, features.shape[1])
        self._products[fold].add(rows, features)
        one = torch.full((len(features), 1), ONE)
        self._sums[fold].add(rows, one)
        self._squares[fold].add(squared, one)

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""
        self._shape = max(self._shape, other._shape)
        for name, products in self._by_name().items():
            for product, further in zip(products, other._by_name()[name], strict=True):
                product.merge(further)

    def totals(self) -> dict[str, Tensor]:
        """Return ``sums``, ``squares`` and ``products`` as `Moments` has them."""
        neurons, width = self._shape
        widths = {"products": width, "sums": 1, "squares": 1}
        found = {}
        for name, products in self._by_name().items():
            found[name] = torch.zeros(len(products), neurons, widths[name], dtype=torch.float64)
            for total, product in zip(found[name], products, strict=True):
                if product.state():
                    total.copy_(product.total())
        return {
            "sums": found["sums"][..., 0] / ONE,
            "squares": found["squares"][..., 0] / ONE,
            "products": found["products"],
        }

    def state(self) -> dict[str, Tensor]:
        """Return the sums as tensors by name, from which `restore` makes them again."""
        parts = {"shape": torch.tensor(self._shape)}
        for name, products in self._by_name().items():
            parts |= _named(name, [product.state() for product in products])
        return parts

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over the sums whose `state` this was."""
        neurons, width = state["shape"].tolist()
        self._shape = (neurons, width)
        for name, products in self._by_name().items():
            for fold, product in enumerate(products):
                product.restore(_of(state, f"{name}.{fold}."))

    def _by_name(self) -> dict[str, list[ExactProduct]]:
        return {"products": self._products, "sums": self._sums, "squares": self._squares}


class Part(NamedTuple):
    """Images of a shard that belong to one fold."""

    fold: int
    shard: Shard


def parts_of(shard: Shard, folds: Tensor | None) -> Iterator[Part]:
    """Yield the images of a shard by fold.

    Args:
        shard: part of the probing set.
        folds: (N,) int64, fold of the image of each rank; None puts all images into fold 0.
    """
    if folds is None:
        yield Part(0, shard)
        return
    mine = folds[shard.ranks]
    for fold in mine.unique().tolist():
        mask = mine == fold
        yield Part(fold, Shard(shard.ranks[mask], shard.features[mask], shard.activations.select(mask)))


def rows_of(activations: Activations) -> Tensor | Winning:
    """Return activations as a matrix (n, D): of the winners alone where every block has just one on every image."""
    if isinstance(activations, WinnerActivations):
        blocks = activations.neurons // activations.competitors
        if bool((activations.counts == blocks).all()):
            units = activations.units.view(-1, blocks).long()
            index = units % activations.competitors
            return Winning.of(activations.values.reshape(-1, blocks), index, activations.competitors)
    return activations.dense()


def _with_one(features: Tensor) -> Tensor:
    """Return the embeddings with one more column, of `ONE`: products with it are sums."""
    return torch.cat([features, features.new_full((len(features), 1), ONE)], dim=1)


def _named(prefix: str, states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{prefix}.{fold}.{name}": value for fold, state in enumerate(states) for name, value in state.items()}


def _of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
