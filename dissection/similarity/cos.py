"""Cosine between a neuron's activations and the images' similarities to a concept, which are never formed."""

from __future__ import annotations

import torch
from torch import Tensor

from lwta.dissection.moments.exact_sums import column_blocks
from lwta.dissection.moments.moments import Statistics
from lwta.dissection.similarity.base import FromMoments

TILE = 1024  # concepts at a time


class Cos(FromMoments):
    """Cosine similarity: score[i, m] = ⟨A_i, P_m⟩ / (‖A_i‖·‖P_m‖), the columns not centred, with P = I·Tᵀ.

    A (N, D) are the activations, I (N, d) and T (M, d) the CLIP embeddings of images and concepts.
    By associativity AᵀP = (AᵀI)Tᵀ and ‖P_m‖² = T_m(IᵀI)T_mᵀ, so the moments of the layer are enough. This is the
    ``cos_similarity`` of CLIP-Dissect (Oikarinen & Weng, ICLR 2023), which DISCOVER uses.

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

    def scores(self, statistics: Statistics, text_features: Tensor) -> Tensor:
        """Return the scores, (D, M) float32; NaN for a neuron whose activations are all 0."""
        directions = (statistics.products / statistics.squares.sqrt()[:, None]).float()
        root = _root(statistics.gram).float()
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
