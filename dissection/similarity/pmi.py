"""Weighted pointwise mutual information between a neuron's most active images and a concept."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import Self

from lwta.dissection.similarity.base import Shard
from lwta.dissection.similarity.top import NONE, largest, pack, unpack

TILE = 2**21  # logarithms that exist at a time, one for every neuron, image of the neuron, and concept


class PMI:
    """score[i, m] = log p(m | E_i) − λ·log p(m): which concept is special for the images E_i that excite neuron i.

    What `WPMI` and `SoftWPMI` have in common. With S = softmax_m(scale·P), log p(m | E_i) is a sum of `_terms` of S
    over the neuron's ``top_k`` most active images, and log p(m) the logarithm of the mean of p(m | E_i) over neurons.

    Unlike in the published code, only images on which a neuron won can be among its most active ones; with k′ < k of
    them, log p is scaled by k/k′, so that neurons of few wins stay comparable. A neuron that never won, or that
    answered 0 on every image, gets no scores and takes no part in log p(m).

    Only the embeddings of the neurons' most active images are kept, at most min(N, D·k), and S is formed of a few
    neurons' images at a time.

    Args:
        top_k: number of images that describe a neuron.
        scale: factor on the cosine similarities before the softmax over the concepts.
        lam: weight λ of how common a concept is.
    """

    def __init__(self, top_k: int, scale: float, lam: float) -> None:
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        self.top_k, self.scale, self.lam = top_k, scale, lam
        self._top: Tensor | None = None  # (D, ≤ top_k) packed activations and ranks, in falling order
        self._answered: Tensor | None = None  # (D,) bool: whether any activation was other than 0
        self._ranks = torch.empty(0, dtype=torch.int64)  # (R,) of the images in _top
        self._features = torch.empty(0, 0)  # (R, d), theirs

    def update(self, shard: Shard) -> None:
        """Take in a shard."""
        activations = shard.activations.dense(absent=float("-inf"))
        candidates = pack(activations, shard.ranks[:, None]).T
        self._take(candidates, shard.activations.answered(), shard.ranks, shard.features)

    def merge(self, other: Self) -> None:
        """Take in all that ``other`` took in."""
        if other._top is not None and other._answered is not None:
            self._take(other._top, other._answered, other._ranks, other._features)

    def _take(self, candidates: Tensor, answered: Tensor, ranks: Tensor, features: Tensor) -> None:
        """Keep the best of what is held and of (D, n) candidates, and the embeddings of the images among them."""
        if self._top is not None and self._answered is not None:
            candidates = torch.cat([self._top, candidates], dim=1)
            answered = self._answered | answered
            ranks, features = torch.cat([self._ranks, ranks]), torch.cat([self._features, features])
        self._top, self._answered = largest(candidates, self.top_k), answered
        kept = torch.isin(ranks, unpack(self._top)[1])
        self._ranks, self._features = ranks[kept], features[kept]

    def finalize(self, text_features: Tensor) -> Tensor:
        """(D, M) float32; NaN for a neuron that never answered."""
        if self._top is None or self._answered is None:
            raise ValueError("there is nothing to score: no shard was taken in")
        log_p = self._log_p(self._top, text_features)
        log_p *= self.top_k / (self._top != NONE).sum(1, keepdim=True)
        log_p[~self._answered] = float("nan")
        alive = log_p[self._answered]
        prior = torch.logsumexp(alive, 0) - math.log(max(len(alive), 1))
        return log_p - self.lam * prior

    def _log_p(self, top: Tensor, text_features: Tensor) -> Tensor:
        """(D, M) float32: sum over each neuron's images of the logarithms, unscaled."""
        order = self._ranks.argsort()
        ranks, features = self._ranks[order], self._features[order]
        sums = []
        for tile in top.split(max(TILE // (self.top_k * len(text_features)), 1)):
            images, places = unpack(tile)[1].unique(return_inverse=True)
            P = features[torch.searchsorted(ranks, images)] @ text_features.T
            S = torch.softmax(self.scale * P, dim=1)
            sums.append(self._terms(S[places]).masked_fill((tile == NONE).unsqueeze(-1), 0).sum(1))
        return torch.cat(sums)

    def _terms(self, S: Tensor) -> Tensor:
        """Summands of log p(m | E), from S (…, k, M) of images in falling order of activation."""
        raise NotImplementedError
