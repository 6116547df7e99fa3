"""Cosine between centred and cubed activations and similarities: large values count more."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Self

from lwta.dissection.similarity.base import Shard
from lwta.dissection.similarity.images import AllImages, Probed

SMALLEST_NORM = 1e-3


class CosCubed:
    """score[i, m] = ⟨a_i³, p_m³⟩ / (‖a_i³‖·‖p_m³‖), of activations and similarities less their means over the images.

    Norms are at least 1e-3. This is the ``cos_similarity_cubed`` of CLIP-Dissect (Oikarinen & Weng, ICLR 2023), which
    DISCOVER uses.

    Where a neuron does not win its activation is 0, and (0 − μ)³ the same on all those images, so the product is one
    over the wins alone plus that constant times Σ_n p_m³. A cube is no linear function of the embeddings: these are
    kept, N·d numbers, and three for each win; the similarities exist in tiles.

    Example:
        >>> from lwta.dissection.activations import DenseActivations
        >>> features = torch.nn.functional.normalize(torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]]), dim=1)
        >>> similarity = CosCubed()
        >>> similarity.update(Shard(torch.arange(3), features, DenseActivations(torch.tensor([[0.0], [0.0], [5.0]]))))
        >>> similarity.finalize(torch.eye(2)).argmax().item()
        1
    """

    name = "cos_cubed"

    def __init__(self) -> None:
        self._images = AllImages()

    def update(self, shard: Shard) -> None:
        """Take in a shard."""
        self._images.add(shard)

    def merge(self, other: Self) -> None:
        """Take in all that ``other`` took in."""
        self._images.merge(other._images)

    def finalize(self, text_features: Tensor) -> Tensor:
        """(D, M) float32; NaN for a neuron that never answered."""
        probed = self._images.gathered()
        rest, extra, neuron_norms = _cubes(probed)
        products, sums, squares = _products(probed, extra, text_features)
        products += rest[:, None] * sums
        scores = products / neuron_norms.clamp_min(SMALLEST_NORM)[:, None] / squares.sqrt().clamp_min(SMALLEST_NORM)
        scores[~probed.answered] = float("nan")
        return scores.float()


def _cubes(probed: Probed) -> tuple[Tensor, Tensor, Tensor]:
    """(−μ)³ of each neuron (D,), what (a − μ)³ is more than that at each win (E,), norms of the cubes (D,); float64."""
    images, neurons = len(probed.features), len(probed.answered)
    wins = probed.winnings
    values = wins.values.double()
    means = torch.bincount(wins.neurons, values, minlength=neurons) / images
    cubes = (values - means[wins.neurons]) ** 3
    silent = images - torch.bincount(wins.neurons, minlength=neurons)
    squares = torch.bincount(wins.neurons, cubes.square(), minlength=neurons) + silent * means**6
    return (-means) ** 3, cubes + means[wins.neurons] ** 3, squares.sqrt()


def _products(probed: Probed, weights: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the cubed similarities p³: products with the wins' weights (D, M), sums and sums of squares (M,); float64."""
    neurons, concepts = len(probed.answered), len(text_features)
    means = probed.features.double().mean(0) @ text_features.double().T
    products = torch.zeros(neurons, concepts, dtype=torch.float64)
    sums, squares = torch.zeros(2, concepts, dtype=torch.float64)
    for rows in probed.tiles(concepts):
        similarities = probed.features[rows] @ text_features.T
        cubes = (similarities - means.float()) ** 3
        sums += cubes.sum(0, dtype=torch.float64)
        squares += cubes.square().sum(0, dtype=torch.float64)
        products += probed.by_neuron(rows, weights) @ cubes
    return products, sums, squares
