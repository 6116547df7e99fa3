"""Soft weighted pointwise mutual information: images belong to a neuron the less, the less they excite it."""

from __future__ import annotations

import torch
from torch import Tensor

from lwta.dissection.similarity.pmi import PMI


class SoftWPMI(PMI):
    """score[i, m] = log p(m | E_i) − λ·log p(m), with log p(m | E_i) = Σ_j log(1 + p_j·(S[n_j, m] − 1) + 1e-7).

    S = softmax_m(scale·P); n_0, n_1, … are the neuron's ``top_k`` most active images, and p_j falls linearly from
    ``p_start`` to ``p_end`` over the ranks j. This is ``soft_wpmi`` of CLIP-Dissect (Oikarinen & Weng, ICLR 2023), as
    DISCOVER uses it; how few wins and none are treated, and what memory it takes, says `PMI`.

    Args:
        top_k: number of images that describe a neuron.
        scale: factor on the cosine similarities before the softmax over the concepts.
        p_start: membership of the most active image, in (0, 1).
        p_end: membership towards which it falls.
        lam: weight λ of how common a concept is.

    Raises:
        ValueError: ``top_k`` is below 1.

    Example:
        >>> from lwta.dissection.activations import DenseActivations
        >>> from lwta.dissection.similarity import Shard
        >>> similarity = SoftWPMI(top_k=1)
        >>> similarity.update(Shard(torch.arange(2), torch.eye(2), DenseActivations(torch.tensor([[0.0], [3.0]]))))
        >>> similarity.finalize(torch.eye(2)).shape
        torch.Size([1, 2])
    """

    name = "soft_wpmi"

    def __init__(
        self,
        *,
        top_k: int = 100,
        scale: float = 10.0,
        p_start: float = 0.998,
        p_end: float = 0.97,
        lam: float = 1.0,
    ) -> None:
        super().__init__(top_k, scale, lam)
        self.p_start, self.p_end = p_start, p_end

    def _terms(self, S: Tensor) -> Tensor:
        # operations and their order are those of the published code, so its values come out to the last bit
        p = self.p_start - torch.arange(S.shape[-2]) / self.top_k * (self.p_start - self.p_end)
        return torch.log(1 + p[:, None] * (S - 1) + 1e-7)
