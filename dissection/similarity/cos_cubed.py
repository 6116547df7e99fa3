"""Cosine similarity between the cubes of centred activations and of centred similarities to a concept."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from lwta.dissection.similarity.kept_shards import Columns, KeepsShards
from lwta.kernels import concept_similarity

WEIGHTS = 2**28  # cubes of activations in memory at a time on a GPU
TILE = 2**22  # similarities of images and concepts in memory at a time
LEAST = 2.0**-100  # smallest factor on the scores of a neuron with small activations, so that float32 can order them
DENSE = 1 / 32  # share of neurons that win on an image from which multiplying zeros costs less than gathering rows


class CosCubed(KeepsShards):
    """Cubed cosine similarity: score[i, m] = ⟨a³, p³⟩ / (‖a³‖·‖p³‖), with a and p centred over the images.

    a are the activations of neuron i and p the similarities of the images to concept m, each less its mean. Cubes are
    elementwise, and norms are at least ``min_norm``. This is ``cos_similarity_cubed`` of CLIP-Dissect (Oikarinen &
    Weng, ICLR 2023), which DISCOVER uses: large deviations count most.

    Before they are cubed, activations are scaled by an exact power of two to a largest magnitude of 0.5 to 1, so that
    no cube overflows or vanishes in float32. ``min_norm`` applies to the unscaled activations, as published: a neuron
    with a smaller ‖a³‖ has smaller scores, in the same order, but never less than 2⁻¹⁰⁰ of its cosines.

    Where a neuron did not win, (a − μ)³ is −μ³. So with P̃ the cubes of the similarities, the product is a sum over the
    wins alone plus a term of rank one: Σ_won ((a − μ)³ + μ³)·P̃[n, m] − μ³·Σ_n P̃[n, m].

    Cubes of P cannot be summed before the concepts are known. So the embeddings of all images are kept, N·d numbers,
    and every win or, without competition, all N·D activations; P is computed for a few concepts at a time.

    Args:
        min_norm: smallest norm by which scores are divided.

    Example:
        >>> from lwta.dissection.recording.activations import DenseActivations
        >>> from lwta.dissection.recording.recording import Shard
        >>> cubed = CosCubed()
        >>> cubed.update(Shard(torch.arange(2), torch.eye(2), DenseActivations(torch.tensor([[3.0], [4.0]]))))
        >>> cubed.finalize(torch.eye(2)).round(decimals=5)
        tensor([[-1.,  1.]])
    """

    name = "cos_cubed"

    def __init__(self, *, min_norm: float = 1e-3) -> None:
        super().__init__()
        self.min_norm = min_norm

    def finalize(self, text_features: Tensor) -> Tensor:
        """Return the scores, (D, M) float32; NaN for a dead neuron.

        Raises:
            ValueError: no shard was added.
        """
        features, columns, active = self._by_rank()
        columns, units = _scaled(columns)
        evaluate = self._scores_on_gpu if text_features.is_cuda else self._scores
        scores, norms = evaluate(features, columns, text_features)
        scores.mul_(self._kept(norms * units**3)[:, None])
        return scores.masked_fill_(~active[:, None], float("nan"))

    def _kept(self, norms: Tensor) -> Tensor:
        """Return the factor, (D,) float32, by which ``min_norm`` lowers the scores of each neuron; 0 for norm 0.

        Args:
            norms: norm of each neuron's cubes, (D,) float64, of the unscaled activations.
        """
        kept = torch.where(norms < self.min_norm, norms / self.min_norm, 1.0).clamp_min(LEAST)
        return kept.masked_fill(norms == 0, 0).float()

    def _scores(self, features: Tensor, columns: Columns, text_features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cosines, (D, M) float32, and the norms of the neurons' cubes, (D,) float64."""
        cubes, common, norms = _cubes(columns)
        divisors = _divisors(norms)
        cubes = cubes / divisors.float()[columns.neurons()]
        common = common / divisors
        mean = features.double().mean(0).float()
        scores = torch.empty(len(common), len(text_features))
        width = max(TILE // columns.size, 1)
        for T, part in zip(text_features.split(width), scores.split(width, dim=1), strict=True):
            P = torch.addmm((T @ mean)[None], features, T.T, beta=-1)
            P = P * P * P
            P /= torch.linalg.vector_norm(P, dim=0).clamp_min_(self.min_norm)
            part.copy_(_product(columns, cubes, P))
            part.addr_(common.float(), P.sum(0))
        return scores, norms

    def _scores_on_gpu(self, features: Tensor, columns: Columns, text_features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute `_scores` by a kernel on the GPU of ``text_features``, with the cubes of a few neurons at a time."""
        place, means = text_features.device, (columns.sums(columns.values) / columns.size).float()
        centre = text_features @ features.double().mean(0).float().to(place)
        features, height = features.to(place), max(WEIGHTS // columns.size, 1)
        scores, norms = torch.empty(len(means), len(text_features)), torch.empty(len(means), dtype=torch.float64)
        parts = zip(range(0, len(means), height), scores.split(height), norms.split(height), strict=True)
        for first, part, norms_of_part in parts:
            a = columns.rows(first, first + len(part)).to(place).sub_(means[first : first + len(part), None].to(place))
            a = (a * a * a).T.contiguous()
            products, squares = concept_similarity(features, text_features, a, centre, 3)
            of_neurons, of_concepts = torch.linalg.vector_norm(a, dim=0), squares.sqrt().clamp_min_(self.min_norm)
            part.copy_(products.div_(_divisors(of_neurons)[:, None]).div_(of_concepts))
            norms_of_part.copy_(of_neurons)
        return scores, norms


def _scaled(columns: Columns) -> tuple[Columns, Tensor]:
    """Return the activations scaled to a largest magnitude of 0.5 to 1 by neuron, and the scales, (D,) float64.

    The scales are powers of two, by which the activations were divided.
    """
    neurons = columns.neurons()
    largest = torch.zeros(len(columns.starts) - 1).scatter_reduce_(0, neurons, columns.values.abs(), "amax")
    units = torch.exp2(largest.double().frexp().exponent.double())
    return columns._replace(values=(columns.values / units[neurons]).float()), units


def _divisors(norms: Tensor) -> Tensor:
    """Return the norms with 1 in place of 0, since there is nothing to divide."""
    return norms.masked_fill(norms == 0, 1)


def _cubes(columns: Columns) -> tuple[Tensor, Tensor, Tensor]:
    """Return (a − μ)³ + μ³ of the entries, (E,) float32, then −μ³ and the norms of (a − μ)³, both (D,) float64.

    If a neuron has an entry for every image, μ³ would be added only to be subtracted, at a loss of precision; 0 is
    used in its place.
    """
    neurons, mean = columns.neurons(), columns.sums(columns.values) / columns.size
    cubes = (columns.values.double() - mean[neurons]) ** 3
    others = columns.size - columns.starts.diff()
    common = (mean**3).masked_fill(others == 0, 0)
    norms = (columns.sums(cubes.square()) + others * common.square()).sqrt()
    return (cubes + common[neurons]).float(), -common, norms


def _product(columns: Columns, entries: Tensor, P: Tensor) -> Tensor:
    """Return the sum over each neuron's entries (E,), each times the row of P (N, m) for its image: (D, m)."""
    neurons = len(columns.starts) - 1
    if len(entries) >= DENSE * neurons * columns.size:
        filled, height = columns._replace(values=entries), max(TILE // columns.size, 1)
        return torch.cat([filled.rows(i, min(i + height, neurons)) @ P for i in range(0, neurons, height)])
    return embedding_bag(
        columns.images, P, columns.starts.int(), mode="sum", per_sample_weights=entries, include_last_offset=True
    )
