"""Base class of `WPMI` and `SoftWPMI`: pointwise mutual information between a neuron's top images and a concept."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag
from typing_extensions import Self

from lwta.dissection.recording.activations import WinnerActivations
from lwta.dissection.recording.recording import Shard
from lwta.kernels import concept_log_p, concept_logsumexp
from lwta.kernels.eager.concepts import EPSILON
from lwta.support.ranking import NONE, largest, pack, unpack

TILE = 3 * 2**18  # similarities of images and concepts that exist at a time
PORTION = 2**18  # logarithms that are computed at a time: few enough to stay in a cache
SPARE = 4096  # images that may be held beside the top images


class TopImagesPMI(ABC):
    """Pointwise mutual information: score[i, m] = log p(m | E_i) − λ·log p(m), E_i being the neuron's top images.

    E_i are the ``top_k`` images that excite neuron i most, and P the similarities of images and concepts.
    With S = softmax_m(scale·P), log p(m | E_i) = Σ_j log(1 + p_j·(S[n_j, m] − 1) + 1e-7) over the images in their
    order, j = 0, 1, …, with memberships p_j, and log p(m) is the logarithm of the mean of p(m | E_i) over the neurons.

    Only images on which a neuron won can be among its most active ones; with k′ < k of them, log p is scaled by k/k′,
    so that neurons of few wins stay comparable. A dead neuron has no scores and takes no part in log p(m).

    Only the embeddings of the neurons' top images are kept, at most min(N, D·k) and some more, and S is formed once,
    for a few images at a time.

    Raises:
        ValueError: ``top_k`` is below 1.
    """

    def __init__(self, *, top_k: int, scale: float, lam: float) -> None:
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        self.top_k, self.scale, self.lam = top_k, scale, lam
        self._top: Tensor | None = None  # (D, ≤ top_k) packed activations and ranks, in falling order
        self._active: Tensor | None = None  # (D,) bool: whether any activation was other than 0
        self._images: list[tuple[Tensor, Tensor]] = []  # ranks and (n, d) embeddings: all images of _top, and some more
        self._room = SPARE  # images to hold before those that are not in _top are dropped

    @abstractmethod
    def memberships(self) -> Tensor:
        """Memberships p_j of the top images by rank, (top_k,) float32 in (0, 1]."""

    def update(self, shard: Shard) -> None:
        """Add a shard of the probing set."""
        candidates = _candidates(shard, self._least())
        self._take(candidates, shard.activations.active(), [(shard.ranks, shard.features)])

    def merge(self, other: Self) -> None:
        """Add everything that was added to ``other``."""
        if other._top is not None and other._active is not None:
            self._take(other._top, other._active, other._images)

    def _least(self) -> Tensor:
        """Least activation with which an image can be among the ``top_k``, (D,) float32; () where any can."""
        if self._top is None or self._top.shape[1] < self.top_k:
            return torch.tensor(float("-inf"))
        return unpack(self._top[:, -1])[0]

    def _take(self, candidates: Tensor, active: Tensor, images: list[tuple[Tensor, Tensor]]) -> None:
        """Keep the best of the held images and of (D, n) candidates, and the embeddings of those images."""
        if self._top is not None and self._active is not None:
            candidates = torch.cat([self._top, candidates], dim=1)
            active = self._active | active
        self._top, self._active = largest(candidates, self.top_k), active
        self._images += images
        if sum(len(ranks) for ranks, _ in self._images) > self._room:
            self._drop(self._top)

    def _drop(self, top: Tensor) -> None:
        """Drop the embeddings of images that are no neuron's top images, if that frees half of the memory."""
        ranks, counts = unpack(top)[1].unique(), [len(ranks) for ranks, _ in self._images]
        kept = torch.isin(torch.cat([ranks for ranks, _ in self._images]), ranks)
        if 2 * int(kept.sum()) < len(kept):
            pairs = zip(self._images, kept.split(counts), strict=True)
            ranks, features = (torch.cat(part) for part in zip(*((r[k], f[k]) for (r, f), k in pairs), strict=True))
            self._images = [(ranks, features)]
        self._room = 2 * int(kept.sum()) + SPARE

    def finalize(self, text_features: Tensor) -> Tensor:
        """Return the scores, (D, M) float32; NaN for a dead neuron.

        Raises:
            ValueError: no shard was added.
        """
        if self._top is None or self._active is None:
            raise ValueError("there is nothing to score: no shard was taken in")
        evaluate = self._log_p_on_gpu if text_features.is_cuda else self._log_p
        scores = torch.full((len(self._top), len(text_features)), float("nan"))
        if not self._active.any():
            return scores
        log_p = evaluate(self._top[self._active], text_features)
        prior = torch.logsumexp(log_p, 0) - math.log(len(log_p))
        scores[self._active] = (log_p - self.lam * prior).float().cpu()
        return scores

    def _log_p(self, top: Tensor, text_features: Tensor) -> Tensor:
        """Return log p(m | E_i), (D, M) float64: the sum over each neuron's k′ top images, scaled by k/k′."""
        held = top != NONE
        neurons, places = held.nonzero(as_tuple=True)
        features, rows, images = self._images_of(top, held)
        p = self.memberships()[places, None]
        rest = 1 - p + EPSILON
        sums = torch.zeros(len(top), len(text_features), dtype=torch.float64)
        height, portion = (max(elements // len(text_features), 1) for elements in (TILE, PORTION))
        tiles = images // height
        by_tile = tiles.argsort(stable=True).split(tiles.bincount().tolist())
        for tile, pairs_of_tile in zip(rows.split(height), by_tile, strict=True):
            S = (features[tile] @ text_features.T).mul_(self.scale)
            torch.softmax(S, dim=1, out=S)
            for pairs in pairs_of_tile.split(portion):
                logarithms = S.index_select(0, images[pairs] % height).mul_(p[pairs]).add_(rest[pairs]).log_()
                present, counts = neurons[pairs].unique_consecutive(return_counts=True)
                sums.index_add_(0, present, _sums_of_runs(logarithms, counts).double())
        return sums.mul_(self.top_k / held.sum(1, keepdim=True))

    def _log_p_on_gpu(self, top: Tensor, text_features: Tensor) -> Tensor:
        """Compute `_log_p` by kernels, on the device of ``text_features``."""
        place, held = text_features.device, top != NONE
        features, rows, images = self._images_of(top, held)
        features, p = features[rows].to(place), self.memberships()[: top.shape[1]].to(place)
        images = torch.full(top.shape, -1).masked_scatter_(held, images).to(place)
        lse = concept_logsumexp(features, text_features, self.scale)
        sums = concept_log_p(features, text_features, lse, images, p, self.scale).double()
        return sums.mul_((self.top_k / held.sum(1, keepdim=True)).to(place))

    def _images_of(self, top: Tensor, held: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Look up the embeddings of the distinct top images.

        Args:
            top: (D, k) packed activations and ranks.
            held: (D, k) bool, where ``top`` holds an image.

        Returns:
            features: the CLIP embeddings kept so far, one a row.
            rows: for each distinct top image, in the order of the ranks, its row in ``features``.
            images: for each True in ``held``, row by row, the index of its image in ``rows``.
        """
        ranks, features = (torch.cat(part) for part in zip(*self._images, strict=True))
        wanted, images = unpack(top)[1][held].unique(return_inverse=True)
        order = ranks.argsort()
        return features, order[torch.searchsorted(ranks[order], wanted)], images


def _sums_of_runs(rows: Tensor, counts: Tensor) -> Tensor:
    """Sums over consecutive runs of the (n, M) rows, (R, M); ``counts`` (R,) are the lengths of the runs."""
    return embedding_bag(torch.arange(len(rows)), rows, counts.cumsum(0) - counts, mode="sum")


def _candidates(shard: Shard, least: Tensor) -> Tensor:
    """Packed activations that are not below ``least``, (D, c); `NONE` where a neuron has fewer than others."""
    activations = shard.activations
    if isinstance(activations, WinnerActivations):
        units = activations.units.long()
        kept = (activations.values >= least.expand(activations.neurons)[units]).nonzero().flatten()
        images = torch.arange(len(activations)).repeat_interleave(activations.counts)[kept]
        neurons, values = units[kept], activations.values[kept]
    else:
        images, neurons = (activations.values >= least).nonzero(as_tuple=True)
        values = activations.values[images, neurons]
    packed = pack(values, shard.ranks[images])
    counts = neurons.bincount(minlength=activations.neurons)
    by_neuron = neurons.argsort(stable=True)
    neurons = neurons[by_neuron]
    places = torch.arange(len(neurons)) - (counts.cumsum(0) - counts)[neurons]
    candidates = torch.full((activations.neurons, max(int(counts.max()), 1)), NONE)
    candidates[neurons, places] = packed[by_neuron]
    return candidates
