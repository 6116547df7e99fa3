"""Jensen–Shannon similarity between where a neuron is active and where a concept is seen."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from lwta.dissection.similarity.kept_shards import Columns, KeepsShards

TILE = 2**22  # similarities of images and concepts that exist at a time
LOGARITHMS = 2**18  # logarithms that exist at a time: one for each image of a neuron and each concept
SMALLEST = 1e-30  # least density, so that its logarithm is finite


class JSD(KeepsShards):
    """Jensen–Shannon similarity: score[i, m] = 1 − JSD(q_i, p_m) in bits, 1 if the two are the same, 0 if disjoint.

    Both are distributions over the images. q_i is the neuron's activations divided by their sum, where negative ones
    count as 0, as do images that the neuron did not win. p_m = softmax_n(P_m/``temperature``), with the similarities P
    of images and concepts, says where the concept is seen.

    DISCOVER (arXiv 2310.04929) names a Jensen–Shannon similarity but neither its paper nor its code defines it: this
    definition is this library's own. Negative activations are not shifted to 0: the shift would raise all images that
    the neuron did not win as well, until q_i is nearly uniform.

    Softmax needs P of all images at once, so the embeddings of all of them are kept, N·d numbers, and every win or,
    without competition, all N·D activations; P exists in tiles of a few concepts. A logarithm is computed for every
    concept and activation above 0.

    Args:
        temperature: temperature of the softmax over the images, above 0; with a small one p_m is on a few images. The
            default suits CLIP ViT-B, for which similarities to a concept spread by 0.02 over photographs: with 0.04 to
            0.07, neurons made to detect the classes of Caltech-101 were named about equally well.

    Raises:
        ValueError: ``temperature`` is not above 0.

    Example:
        >>> from lwta.dissection.recording.activations import DenseActivations
        >>> from lwta.dissection.recording.recording import Shard
        >>> jsd = JSD()
        >>> jsd.update(Shard(torch.arange(2), torch.eye(2), DenseActivations(torch.eye(2))))
        >>> jsd.finalize(torch.eye(2))
        tensor([[1., 0.],
                [0., 1.]])
    """

    name = "jsd"

    def __init__(self, *, temperature: float = 0.05) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.temperature = temperature

    def finalize(self, text_features: Tensor) -> Tensor:
        """Return the scores, (D, M) float32; NaN for a neuron that was never above 0.

        Raises:
            ValueError: no shard was added.
        """
        text_features = text_features.cpu()  # there is no kernel for it
        features, columns, _ = self._by_rank()
        columns = columns.where(columns.values > 0)
        sums = columns.sums(columns.values)
        q = (columns.values * columns.size / sums[columns.neurons()]).float()
        scores = torch.empty(len(sums), len(text_features))
        width = max(TILE // columns.size, 1)
        for T, part in zip(text_features.split(width), scores.split(width, dim=1), strict=True):
            p = torch.softmax(features @ (T / self.temperature).T, dim=0).mul_(columns.size).clamp_min_(SMALLEST)
            part.copy_(_similarity(columns, q, p))
        return scores.masked_fill_((sums == 0)[:, None], float("nan"))


def _similarity(columns: Columns, q: Tensor, p: Tensor) -> Tensor:
    """Return 1 − JSD, (D, M) float64, of densities with mean 1: q (E,), of the entries above 0, and p (N, M).

    With φ(x) = x·log2 x, 1 − JSD in bits is half the mean of φ(q + p) − φ(q) − φ(p), since q + p has the mean 2.
    Images where q is 0 add nothing to it.
    """
    sums = -columns.sums(_phi(q))[:, None].repeat(1, p.shape[1])
    phi_p, height = _phi(p), max(LOGARITHMS // p.shape[1], 1)
    for neuron, (start, end) in enumerate(pairwise(columns.starts.tolist())):
        for first in range(start, end, height):
            part = slice(first, min(first + height, end))
            images = columns.images[part]
            both = p.index_select(0, images).add_(q[part, None])
            sums[neuron] += _phi(both).sub_(phi_p.index_select(0, images)).sum(0)
    return sums / (2 * columns.size)


def _phi(x: Tensor) -> Tensor:
    return torch.log2(x).mul_(x)
