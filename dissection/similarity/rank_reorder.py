"""Rank-reorder similarity: how well the order of similarities to a concept reproduces a neuron's top activations."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lwta.dissection.similarity.kept_shards import Columns, KeepsShards
from lwta.support.ranking import largest, pack, unpack

TILE = 2**22  # similarities of images and concepts, or activations, that exist at a time
SMALLEST_MEAN = 1e-6


class RankReorder(KeepsShards):
    """Rank-reorder similarity: score[i, m] = −error / (mean of P_m)^``scale_p``, both over the neuron's top images.

    The top images are the ``top_fraction`` of all that excite the neuron most, and P_m are the images' similarities to
    the concept. The error is what reordering costs: each of those images is given the activation whose rank is that of
    the image's similarity to the concept, and error = mean |a − reordered|³, divided by what a random order gives on
    average. This is ``rank_reorder`` of CLIP-Dissect (Oikarinen & Weng, ICLR 2023), which DISCOVER uses.

    Unlike theirs, which draws five random orders, the average is exact, the mean of |a_i − a_j|³ over all pairs, so the
    scores are deterministic. Only images on which a neuron won count, so one of few wins has fewer top images. Where
    all activations are equal no order is better than another, and the error is 1. Of images equally similar to a
    concept, the one of the smaller rank counts as more similar. A mean of P below 1e-6 counts as that.

    How many images ``top_fraction`` makes is not known before the end, so the embeddings of all of them are kept, N·d
    numbers, and every win or, without competition, all N·D activations; P exists in tiles of a few concepts.

    Args:
        top_fraction: share of all images that a neuron's top images are, in (0, 1]; at least one image is.
        scale_p: exponent of the mean similarity.

    Raises:
        ValueError: ``top_fraction`` is not within (0, 1].

    Example:
        >>> from lwta.dissection.recording.activations import DenseActivations
        >>> from lwta.dissection.recording.recording import Shard
        >>> reorder = RankReorder(top_fraction=1)
        >>> features = torch.tensor([[0.6, 0.8], [0.8, 0.6]])
        >>> reorder.update(Shard(torch.arange(2), features, DenseActivations(torch.tensor([[1.0], [2.0]]))))
        >>> reorder.finalize(torch.eye(2)).argmax(1)
        tensor([0])
    """

    name = "rank_reorder"

    def __init__(self, *, top_fraction: float = 0.05, scale_p: float = 0.5) -> None:
        super().__init__()
        if not 0 < top_fraction <= 1:
            raise ValueError(f"top_fraction must be within (0, 1], got {top_fraction}")
        self.top_fraction, self.scale_p = top_fraction, scale_p

    def finalize(self, text_features: Tensor) -> Tensor:
        """Return the scores, (D, M) float32; NaN for a dead neuron.

        Raises:
            ValueError: no shard was added.
        """
        text_features = text_features.cpu()  # there is no kernel for it
        features, columns, active = self._by_rank()
        tops = _top_images(columns, max(int(columns.size * self.top_fraction), 1))
        errors = torch.full((len(tops), len(text_features)), float("nan"))
        neurons = active.nonzero().flatten().tolist()
        width = max(TILE // columns.size, 1)
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            for T, part in zip(text_features.split(width), errors.split(width, dim=1), strict=True):
                ranks = _ranks(T @ features.T, threads)
                for neuron, row in zip(
                    neurons, threads.map(partial(_errors, ranks), [tops[i] for i in neurons]), strict=True
                ):
                    part[neuron] = torch.from_numpy(row)
        centres = torch.zeros(len(tops), features.shape[1])
        for neuron in neurons:
            centres[neuron] = features[torch.from_numpy(tops[neuron][1])].mean(0)
        return -errors / (centres @ text_features.T).clamp_min_(SMALLEST_MEAN) ** self.scale_p


Top = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Activations of one neuron in falling order, and their images."""


def _top_images(columns: Columns, k: int) -> list[Top]:
    """Top images of each neuron: the k largest activations, or all wins where there are fewer."""
    neurons, tops = len(columns.starts) - 1, []
    step = max(TILE // columns.size, 1)
    for first in range(0, neurons, step):
        rows = columns.rows(first, min(first + step, neurons), absent=float("-inf"))
        for values, images in zip(*unpack(largest(pack(rows, torch.arange(columns.size)), k)), strict=True):
            held = images >= 0
            tops.append((values[held].numpy(), images[held].numpy()))
    return tops


def _ranks(P: Tensor, threads: ThreadPoolExecutor) -> NDArray[np.int32]:
    """Rank of each image by falling similarity to each concept, (m, N) int32, from similarities P (m, N)."""
    images = torch.arange(P.shape[1])
    ranks = np.empty(P.shape, dtype=np.int32)

    def rank(concept: int) -> None:
        keys = np.sort(pack(P[concept], images).numpy())
        ranks[concept, 0x7FFFFFFF - (keys & 0x7FFFFFFF)] = np.arange(len(keys), dtype=np.int32)

    list(threads.map(rank, range(len(P))))
    return ranks


def _errors(ranks: NDArray[np.int32], top: Top) -> NDArray[np.float32]:
    """Error of reordering by each concept, (m,) float32, as a share of the error of a random order."""
    values, images = top
    random = _error_of_random_order(values)
    if random == 0:
        return np.ones(len(ranks), dtype=np.float32)
    # rank and place in one number: sorting these gives the places in the order of similarity
    bits = len(images).bit_length()
    wide = ranks.shape[1] << bits >= 2**31
    keys = (ranks[:, images].astype(np.int64) if wide else ranks[:, images]) << bits
    keys |= np.arange(len(images), dtype=keys.dtype)
    keys.sort(axis=1)
    keys &= (1 << bits) - 1
    misses = values[keys]
    misses -= values[::-1]
    np.abs(misses, out=misses)
    return (misses * misses * misses).mean(axis=1) / np.float32(random)


def _error_of_random_order(values: NDArray[np.float32]) -> float:
    """Mean of |a_i − a_j|³ over all pairs of n falling numbers, i = j included; 0 if and only if all are equal.

    For sorted numbers |a_i − a_j|³ is a polynomial, so the mean follows from running sums of powers. The numbers are
    first centred and scaled to a spread of 1, so that these sums do not cancel.
    """
    a = values[::-1].astype(np.float64)
    spread = a[-1] - a[0]
    if spread == 0:
        return 0.0
    a = (a - a[0]) / spread
    a -= a.mean()
    before = [np.cumsum(a**power) - a**power for power in range(4)]
    pairs = before[0] * a**3 - 3 * before[1] * a**2 + 3 * before[2] * a - before[3]
    return float(2 * pairs.sum() / len(a) ** 2 * spread**3)
