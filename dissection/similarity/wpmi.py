"""Weighted pointwise mutual information between a neuron's most active images and a concept."""

from __future__ import annotations

import torch
from torch import Tensor

from lwta.dissection.similarity.pmi import TopImagesPMI


class WPMI(TopImagesPMI):
    """WPMI, score[i, m] = log p(m | E_i) − λ·log p(m): how special concept m is for neuron i's top images.

    With S = softmax_m(scale·P), over the ``top_k`` images that excite the neuron most:
    log p(m | E_i) = Σ_j log(S[n_j, m] + 1e-7), and log p(m) is the logarithm of the mean of p(m | E_i) over the
    neurons. This is ``wpmi`` of CLIP-Dissect (Oikarinen & Weng, ICLR 2023), as DISCOVER uses it, except for neurons of
    few wins: see `TopImagesPMI`.

    Args:
        top_k: number of images that describe a neuron.
        scale: factor on the cosine similarities before the softmax over the concepts.
        lam: weight λ of how common a concept is.

    Raises:
        ValueError: ``top_k`` is below 1.

    Example:
        >>> from lwta.dissection.recording.activations import DenseActivations
        >>> from lwta.dissection.recording.recording import Shard
        >>> wpmi = WPMI(top_k=1)
        >>> wpmi.update(Shard(torch.arange(2), torch.eye(2), DenseActivations(torch.eye(2))))
        >>> wpmi.finalize(torch.eye(2)).argmax(1)
        tensor([0, 1])
    """

    name = "wpmi"

    def __init__(self, *, top_k: int = 28, scale: float = 2.0, lam: float = 0.6) -> None:
        super().__init__(top_k=top_k, scale=scale, lam=lam)

    def memberships(self) -> Tensor:
        """Memberships of the top images by rank, (top_k,) float32: all are 1."""
        return torch.ones(self.top_k)
