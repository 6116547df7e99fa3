"""Soft weighted pointwise mutual information between a neuron's most active images and a concept."""

from __future__ import annotations

import torch
from torch import Tensor

from lwta.dissection.similarity.pmi import TopImagesPMI


class SoftWPMI(TopImagesPMI):
    """Soft WPMI, score[i, m] = log p(m | E_i) − λ·log p(m): how special concept m is for neuron i's top images.

    With S = softmax_m(scale·P), over the ``top_k`` images that excite the neuron most, ranked j = 0, 1, …:
    log p(m | E_i) = Σ_j log(1 + p_j·(S[n_j, m] − 1) + 1e-7), where p_j falls linearly from ``p_start`` to ``p_end``
    over the ``top_k`` ranks, and log p(m) is the logarithm of the mean of p(m | E_i) over the neurons. This is
    ``soft_wpmi`` of CLIP-Dissect (Oikarinen & Weng, ICLR 2023), as DISCOVER uses it, except for neurons of few wins:
    see `TopImagesPMI`.

    Args:
        top_k: number of images that describe a neuron.
        scale: factor on the cosine similarities before the softmax over the concepts.
        p_start: membership of the most active image, in (0, 1).
        p_end: membership towards which it falls, in (0, 1).
        lam: weight λ of how common a concept is.

    Raises:
        ValueError: ``top_k`` is below 1, or a membership is not within (0, 1).

    Example:
        >>> from lwta.dissection.recording.activations import DenseActivations
        >>> from lwta.dissection.recording.recording import Shard
        >>> soft_wpmi = SoftWPMI(top_k=1)
        >>> soft_wpmi.update(Shard(torch.arange(2), torch.eye(2), DenseActivations(torch.eye(2))))
        >>> soft_wpmi.finalize(torch.eye(2)).argmax(1)
        tensor([0, 1])
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
        super().__init__(top_k=top_k, scale=scale, lam=lam)
        for name, value in (("p_start", p_start), ("p_end", p_end)):
            if not 0 < value < 1:
                raise ValueError(f"{name} must be within (0, 1), got {value}")
        self.p_start, self.p_end = p_start, p_end

    def memberships(self) -> Tensor:
        """Memberships of the top images by rank, (top_k,) float32, falling from ``p_start``."""
        return self.p_start - torch.arange(self.top_k) / self.top_k * (self.p_start - self.p_end)
