"""Figures of a layer's labels: how far to believe them, and controls in which there is nothing to believe."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lwta.dissection.labels.choosing import Chosen, choose
from lwta.dissection.labels.naming import Naming
from lwta.dissection.moments.measuring import sample_of
from lwta.dissection.moments.sample import Sample
from lwta.dissection.similarity import Similarity
from lwta.dissection.trust.abstention import Abstention
from lwta.dissection.trust.cross_validation import Trust

NOT_SPECIFIC = 0.2
"""Share of neurons told apart below which labels say more about the layer, or the images, than about its neurons."""


class TrustFigures(NamedTuple):
    """Figures of the labels of one layer, or of a control; NaN where one is not defined."""

    name: str
    """Name of what the labels are of: the layer as it is, or a control."""
    labelled: float
    """Share of the neurons that are not dead of which a word fits, by the rule of `Abstention`."""
    r: float
    """Cross-validated correlation of activation and prediction, mean over the neurons."""
    told_apart: float
    """Share of the neurons that their words predict better than any other neuron of the layer; by chance 1/D."""
    reciprocal_rank: float
    """Mean of 1/rank, the rank of a neuron among those that its words predict: between 0 and 1."""
    images: int
    """Number of images."""


def trust_figures(name: str, trust: Trust, active: Tensor) -> TrustFigures:
    """Return the figures of a layer.

    Args:
        name: what the labels are of.
        trust: figures of the neurons.
        active: mask (D,) of the neurons that are not dead.
    """
    judged = trust.rank > 0
    rank = trust.rank[judged].double()
    alive = max(int(active.sum()), 1)
    shown = sum(reason is None for reason in Abstention().reasons(trust, active))
    if not judged.any():
        return TrustFigures(name, shown / alive, math.nan, math.nan, math.nan, trust.images)
    apart, reciprocal = int((rank == 1).sum()) / alive, float((1 / rank).sum()) / alive
    return TrustFigures(name, shown / alive, float(trust.r[judged].mean()), apart, reciprocal, trust.images)


def controls(
    dissection: Naming, layer: str, similarity: str | Callable[[], Similarity], others: Mapping[str, Naming]
) -> list[TrustFigures]:
    """Return the figures of controls: what labels look like where there is nothing for them to say.

    Shuffled activations: each neuron's are permuted over the images. Other neurons' labels: each neuron is judged by
    the words of all others. Rotation: the layer's standardised activations in a random orthogonal basis, whose axes
    mean nothing in particular; a layer whose own basis says more does better than that. They are of the sample of at
    most 4,096 images; if there are more, the layer as it is on this sample comes first, to compare with.

    Args:
        dissection: named neurons.
        layer: one of its layers.
        similarity: the labeler.
        others: further dissections to compare with, such as of the untrained network; those without this layer are left
            out.

    Raises:
        ValueError: the similarity does not fit.
    """
    sample, texts = sample_of(dissection.recording, layer), dissection.concepts.encode(dissection.clip)

    def figures(name: str, values: Tensor) -> TrustFigures:
        chosen = _labelled(sample.changed(values), layer, similarity, texts.to(dissection.device))
        return trust_figures(name, chosen.trust, (values != 0).any(0))

    trust = dissection.chosen(layer).trust
    found = []
    if len(sample.keys) < len(dissection.recording.keys):
        found.append(figures(f"the layer on {len(sample.keys)} images", sample.values))
    found.append(figures("shuffled activations", shuffled(sample.values)))
    found.append(_of_others(trust))
    found.append(figures("random rotation", rotated(sample.values)))
    for name, other in others.items():
        if layer in other.layers:
            found.append(trust_figures(name, other.chosen(layer).trust, other.recording.active(layer)))
    return found


def _labelled(sample: Sample, layer: str, similarity: str | Callable[[], Similarity], texts: Tensor) -> Chosen:
    return choose(sample, similarity, texts, layers=[layer])[layer]


def _of_others(trust: Trust) -> TrustFigures:
    """Figures of neurons under the words of all other neurons: told apart they cannot be, but by chance."""
    judged = trust.of_others[~trust.of_others.isnan()]
    mean = float(judged.mean()) if len(judged) else math.nan
    return TrustFigures("other neurons' words", math.nan, mean, math.nan, math.nan, trust.images)


def shuffled(values: Tensor, seed: int = 0) -> Tensor:
    """Return activations (n, D) with those of each neuron permuted over the images by itself."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(values.shape, generator=generator).argsort(0)
    return values.gather(0, order)


def rotated(values: Tensor, seed: int = 0) -> Tensor:
    """Return standardised activations (n, D) in a random orthogonal basis; constant neurons are left out of it.

    Neurons are standardised so that none outweighs the others. The basis is that of a matrix of normal numbers, by the
    QR decomposition, with the signs that make it uniform over all rotations.
    """
    generator = torch.Generator().manual_seed(seed)
    centred = values.double() - values.double().mean(0)
    deviations = centred.square().mean(0).sqrt()
    varies = deviations > 1e-6 * values.double().abs().amax(0)
    standard = centred[:, varies] / deviations[varies]
    normal = torch.randn(standard.shape[1], standard.shape[1], generator=generator, dtype=torch.float64)
    basis, triangle = torch.linalg.qr(normal)
    found = torch.zeros_like(centred)
    found[:, varies] = standard @ (basis * triangle.diagonal().sign())
    return found.float()


def verdict(layer: TrustFigures, name: str) -> str | None:
    """Return a sentence where labels are not specific; None where they are, or where that cannot be said.

    Args:
        layer: figures of the layer as it is.
        name: name of the layer.
    """
    if not layer.told_apart < NOT_SPECIFIC:
        return None
    return (
        f"{name}: the labels are not specific: only {layer.told_apart:.0%} of its neurons are told apart by their "
        f"words from others of the layer; r = {layer.r:.2f} shows what the neurons have in common"
    )
