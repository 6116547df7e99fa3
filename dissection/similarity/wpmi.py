"""Weighted pointwise mutual information, every one of the most active images counting the same."""

from __future__ import annotations

import torch
from torch import Tensor

from lwta.dissection.similarity.pmi import PMI


class WPMI(PMI):
    """score[i, m] = log p(m | E_i) − λ·log p(m), with log p(m | E_i) = Σ_{n ∈ E_i} log(S[n, m] + 1e-7).

    S = softmax_m(scale·P), and E_i are the neuron's ``top_k`` most active images. This is ``wpmi`` of CLIP-Dissect
    (Oikarinen & Weng, ICLR 2023), after Hernandez et al., "Natural language descriptions of deep visual features"
    (ICLR 2022), as DISCOVER uses it; how few wins and none are treated, and what memory it takes, says `PMI`.

    Args:
        top_k: number of images that describe a neuron.
        scale: factor on the cosine similarities before the softmax over the concepts.
        lam: weight λ of how common a concept is.

    Raises:
        ValueError: ``top_k`` is below 1.

    Example:
        >>> from lwta.dissection.activations import DenseActivations
        >>> from lwta.dissection.similarity import Shard
        >>> similarity = WPMI(top_k=1, lam=0.0)
        >>> similarity.update(Shard(torch.arange(2), torch.eye(2), DenseActivations(torch.tensor([[0.0], [3.0]]))))
        >>> similarity.finalize(torch.eye(2)).argmax().item()
        1
    """

    name = "wpmi"

    def __init__(self, *, top_k: int = 28, scale: float = 2.0, lam: float = 0.6) -> None:
        super().__init__(top_k, scale, lam)

    def _terms(self, S: Tensor) -> Tensor:
        return torch.log(S + 1e-7)
