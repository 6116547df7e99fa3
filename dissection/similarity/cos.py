"""Cosine between a neuron's activations and the images' similarities to a concept, which are never formed."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Self

from lwta.dissection.recording.recording import Shard
from lwta.dissection.similarity.exact_sums import GRID, ROWS, ExactGram, ExactProduct, column_blocks

TILE = 1024  # concepts at a time


class Cos:
    """Cosine similarity: score[i, m] = ⟨A_i, P_m⟩ / (‖A_i‖·‖P_m‖), the columns not centred, with P = I·Tᵀ.

    A (N, D) are the activations, I (N, d) and T (M, d) the CLIP embeddings of images and concepts.
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
        """Add a shard of the probing set."""
        activations = shard.activations.dense()
        self._products.add(activations, shard.features)
        one = torch.full((ROWS, 1), 2.0**-GRID)  # the integer 1, so that carries are rare
        for rows in activations.split(ROWS):
            self._squares.add(rows.double().square(), one[: len(rows)])
        self._gram.add(shard.features)

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""
        self._products.merge(other._products)
        self._squares.merge(other._squares)
        self._gram.merge(other._gram)

    def finalize(self, text_features: Tensor) -> Tensor:
        """Return the scores, (D, M) float32; NaN for a neuron whose activations are all 0.

        Raises:
            ValueError: no shard was added.
        """
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
    """Lower triangular R with RRᵀ = IᵀI, so that ‖P_m‖ = ‖T_m·R‖.

    10⁻¹² of the trace is added to the diagonal, so that R exists where IᵀI is singular.
    """
    trace = gram.trace().clamp_min(torch.finfo(gram.dtype).tiny)
    return torch.linalg.cholesky(gram + 1e-12 * trace * torch.eye(len(gram), dtype=gram.dtype))
