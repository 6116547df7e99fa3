"""Cosine between activations and similarities to a concept, without ever forming the latter."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Self

from lwta.dissection.similarity.base import Shard
from lwta.dissection.similarity.exact import ExactProduct, on_grid


class Cos:
    """score[i, m] = ⟨A_i, P_m⟩ / (‖A_i‖·‖P_m‖), the columns not centred, with P = I·Tᵀ.

    By associativity AᵀP = (AᵀI)Tᵀ and ‖P_m‖² = T_m(IᵀI)T_mᵀ, so D·d + d² numbers are kept, whatever the number of
    images and of concepts. This is the ``cos_similarity`` of CLIP-Dissect (Oikarinen & Weng, ICLR 2023), which DISCOVER
    uses.

    Example:
        >>> from lwta.dissection.activations import DenseActivations
        >>> from lwta.dissection.similarity import Shard
        >>> features = torch.eye(2)
        >>> cos = Cos()
        >>> cos.update(Shard(torch.arange(2), features, DenseActivations(torch.tensor([[3.0], [4.0]]))))
        >>> cos.finalize(features)
        tensor([[0.6000, 0.8000]])
    """

    name = "cos"

    def __init__(self) -> None:
        self._products = ExactProduct(top=4)  # AᵀI, (D, d)
        self._squares = ExactProduct(top=8)  # ‖A_i‖², (D, 1)
        self._gram = ExactProduct()  # IᵀI, (d, d)

    def update(self, shard: Shard) -> None:
        """Take in a shard."""
        activations = shard.activations.dense().double()
        self._products.add(activations, shard.features)
        self._squares.add(activations.square(), torch.ones(len(activations), 1))
        self._gram.add(on_grid(shard.features), shard.features)

    def merge(self, other: Self) -> None:
        """Take in all that ``other`` took in."""
        self._products.merge(other._products)
        self._squares.merge(other._squares)
        self._gram.merge(other._gram)

    def finalize(self, text_features: Tensor) -> Tensor:
        """(D, M) float32; NaN for a neuron whose activations are all 0."""
        T = text_features.double()
        concept_norms = ((T @ self._gram.total()) * T).sum(1).clamp_min(torch.finfo(T.dtype).tiny).sqrt()
        neuron_norms = self._squares.total().sqrt()
        return (self._products.total() @ T.T / neuron_norms / concept_norms).float()
