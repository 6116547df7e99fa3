"""How similar a neuron's activations are to a concept, over the images of the probe."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lwta.dissection.similarity.base import Similarity
from lwta.dissection.similarity.cos import Cos
from lwta.dissection.similarity.cos_cubed import CosCubed
from lwta.dissection.similarity.jsd import JSD
from lwta.dissection.similarity.rank_reorder import RankReorder
from lwta.dissection.similarity.score_layers import similarities_of
from lwta.dissection.similarity.soft_wpmi import SoftWPMI
from lwta.dissection.similarity.wpmi import WPMI

SIMILARITIES: dict[str, Callable[[], Similarity]] = {
    Cos.name: Cos,
    CosCubed.name: CosCubed,
    JSD.name: JSD,
    RankReorder.name: RankReorder,
    SoftWPMI.name: SoftWPMI,
    WPMI.name: WPMI,
}
"""By the names that `dissect` and `Dissection.relabel` take."""

__all__ = [
    "JSD",
    "SIMILARITIES",
    "WPMI",
    "Cos",
    "CosCubed",
    "RankReorder",
    "Similarity",
    "SoftWPMI",
    "find_similarity",
    "scoring_device",
    "similarities_of",
]


def find_similarity(similarity: str | Callable[[], Similarity]) -> Callable[[], Similarity]:
    """What makes a fresh accumulator of the similarity.

    Args:
        similarity: a name among `SIMILARITIES`, for the published parameters, or any callable that makes one, such as
            ``partial(SoftWPMI, top_k=50)``.

    Raises:
        ValueError: there is no similarity of that name.

    Example:
        >>> find_similarity("cos")() # doctest: +ELLIPSIS
        <lwta.dissection.similarity.cos.Cos object at ...>
    """
    if not isinstance(similarity, str):
        return similarity
    if similarity not in SIMILARITIES:
        raise ValueError(f"similarity must be one of {', '.join(map(repr, SIMILARITIES))}, got {similarity!r}")
    return SIMILARITIES[similarity]


def scoring_device(device: torch.device | str) -> torch.device:
    """Where similarities are computed if networks are on this device: GPUs of CUDA or ROCm have kernels for some."""
    device = torch.device(device)
    return device if device.type == "cuda" else torch.device("cpu")
