"""Pointwise mutual information between a neuron's most active images and a concept: what its variants share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from typing_extensions import Self

from lwta.dissection.similarity.base import Shard
from lwta.dissection.similarity.top import NONE, largest, pack, unpack

TILE = 2**21  # cosine similarities of images and concepts that exist at a time
SMALLEST = 1e-35  # product of probabilities that float32 still holds exactly enough


class TopImagesPMI(ABC):
    """score[i, m] = log p(m | E_i) − λ·log p(m), over the ``top_k`` images E_i that excite neuron i most.

    With S = softmax_m(scale·P), log p(m | E_i) = Σ_j log f(S[n_j, m], j) over the images in their order, j = 0, 1, …,
    and log p(m) is the logarithm of the mean of p(m | E_i) over the neurons.

    Only images on which a neuron won can be among its most active ones; with k′ < k of them, log p is scaled by k/k′,
    so that neurons of few wins stay comparable. A neuron that never won, or that answered 0 on every image, gets no
    scores and takes no part in log p(m).

    Only the embeddings of the neurons' most active images are kept, at most min(N, D·k), and S is formed of a few
    concepts at a time, once the sums over all of them are known.
    """

    def __init__(self, *, top_k: int, scale: float, lam: float) -> None:
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        self.top_k, self.scale, self.lam = top_k, scale, lam
        self._top: Tensor | None = None  # (D, ≤ top_k) packed activations and ranks, in falling order
        self._answered: Tensor | None = None  # (D,) bool: whether any activation was other than 0
        self._ranks = torch.empty(0, dtype=torch.int64)  # (R,) of the images in _top
        self._features = torch.empty(0, 0)  # (R, d), theirs

    @abstractmethod
    def _factor(self, S: Tensor, place: int) -> Tensor:
        """f(S, j) of (D, m) probabilities of the images in place j, which it may overwrite."""

    @property
    @abstractmethod
    def _smallest_factor(self) -> float:
        """f(0, 0), the least that `_factor` gives."""

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
        log_p = self._log_p(self._top[self._answered], text_features)
        prior = torch.logsumexp(log_p, 0) - math.log(max(len(log_p), 1))
        scores = torch.full((len(self._top), len(text_features)), float("nan"))
        scores[self._answered] = (log_p - self.lam * prior).float()
        return scores

    def _log_p(self, top: Tensor, text_features: Tensor) -> Tensor:
        """(D, M) float64: sum over each neuron's images of the logarithms, scaled by k/k′."""
        order = self._ranks.argsort()
        features, missing = self._features[order], top == NONE
        images = torch.searchsorted(self._ranks[order], unpack(top)[1]).masked_fill_(missing, 0)
        normalisers = self._log_sums(features, text_features)
        log_p = torch.empty(len(top), len(text_features), dtype=torch.float64)
        width = max(TILE // max(len(features), 1), 1)
        for T, part in zip(text_features.split(width), log_p.split(width, dim=1), strict=True):
            S = torch.addmm(normalisers, features, T.T, beta=-1, alpha=self.scale).exp_()
            part.copy_(self._sum_of_logarithms(S, images, missing))
        return log_p * (self.top_k / (~missing).sum(1, keepdim=True))

    def _log_sums(self, features: Tensor, text_features: Tensor) -> Tensor:
        """(R, 1): logarithm of the sum over the concepts of exp(scale·P), for each image."""
        tiles = features.split(max(TILE // len(text_features), 1))
        return torch.cat([torch.logsumexp(self.scale * (tile @ text_features.T), 1, keepdim=True) for tile in tiles])

    def _sum_of_logarithms(self, S: Tensor, images: Tensor, missing: Tensor) -> Tensor:
        """(D, m) float64 from (R, m) probabilities; as many factors share a logarithm as their product allows."""
        together = max(int(math.log(SMALLEST) / math.log(self._smallest_factor)), 1)
        sums = torch.zeros(len(images), S.shape[1], dtype=torch.float64)
        for first in range(0, images.shape[1], together):
            product = torch.ones(len(images), S.shape[1])
            for place in range(first, min(first + together, images.shape[1])):
                factor = self._factor(S.index_select(0, images[:, place]), place)
                if missing[:, place].any():
                    factor.masked_fill_(missing[:, place, None], 1)
                product *= factor
            sums += product.log_()
        return sums
