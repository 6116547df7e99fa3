"""Cosine between activations and similarities to a concept, without ever forming the latter."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Self

from lwta.dissection.recording.recording import Shard
from lwta.dissection.similarity.exact_sums import GRID, ROWS, ExactGram, ExactProduct, column_blocks

TILE = 1024  # concepts at a time


class Cos:
    """score[i, m] = ⟨A_i, P_m⟩ / (‖A_i‖·‖P_m‖), the columns not centred, with P = I·Tᵀ.

    By associativity AᵀP = (AᵀI)Tᵀ and ‖P_m‖² = T_m(IᵀI)T_mᵀ, so some D·d + d² numbers are kept, whatever the number of
    images and of concepts. This is the ``cos_similarity`` of CLIP-Dissect (Oikarinen & Weng, ICLR 2023), which DISCOVER
    uses.

    Example:
        >>> from lwta.dissection.recording.activations import DenseActivations
        >>> from lwta.dissection.recording.recording import Shard
        >>> features = torch.eye(2)
        >>> cos = Cos()
        >>> cos.update(Shard(torch.arange(2), features, DenseActivations(torch.tensor([[3.0], [4.0]]))))
        >>> cos.finalize(features)
        tensor([[0.6000, 0.8000]])
    """

    name = "cos"

    def __init__(self) -> None:
        self._products = ExactProduct()  # AᵀI, (D, d)
        self._squares = ExactProduct()  # ‖A_i‖²·2^-GRID, (D, 1)
        self._gram = ExactGram()  # IᵀI, (d, d)

    def update(self, shard: Shard) -> None:
        """Take in a shard."""
        activations = shard.activations.dense()
        self._products.add(activations, shard.features)
        one = torch.full((ROWS, 1), 2.0**-GRID)  # the least that counts, and the least work
        for rows in activations.split(ROWS):
            self._squares.add(rows.double().square(), one[: len(rows)])
        self._gram.add(shard.features)

    def merge(self, other: Self) -> None:
        """Take in all that ``other`` took in."""
        self._products.merge(other._products)
        self._squares.merge(other._squares)
        self._gram.merge(other._gram)

    def finalize(self, text_features: Tensor) -> Tensor:
        """(D, M) float32; NaN for a neuron whose activations are all 0."""
        text_features = text_features.cpu()  # exact sums and a product: no work for a GPU
        directions = (self._products.total() / (self._squares.total() * 2.0**GRID).sqrt()).float()
        root = _root(self._gram.total()).float()
        blocks = list(column_blocks(len(root)))
        scores = torch.empty(len(directions), len(text_features))
        for T, part in zip(text_features.split(TILE), scores.split(TILE, dim=1), strict=True):
            squares = [(T[:, block.start :] @ root[block.start :, block]).square_().sum(1) for block in blocks]
            torch.mm(directions, (T / torch.stack(squares).sum(0).sqrt_()[:, None]).T, out=part)
        return scores


def _root(gram: Tensor) -> Tensor:
    """Triangular R with RRᵀ = IᵀI, so that ‖P_m‖ = ‖T_m·R‖; a trace of it added to the diagonal makes R exist."""
    trace = gram.trace().clamp_min(torch.finfo(gram.dtype).tiny)
    return torch.linalg.cholesky(gram + 1e-12 * trace * torch.eye(len(gram), dtype=gram.dtype))
