"""Similarities of neurons with concepts: how alike activations and a concept are over the probing set."""

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
"""Similarities by name, as `dissect` and `Dissection.relabel` take them."""

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
    """Find a similarity; return a callable that makes a fresh accumulator of it.

    Args:
        similarity: a name among `SIMILARITIES`, for the published parameters; or any callable that makes an
            accumulator, such as ``partial(SoftWPMI, top_k=50)``, which is returned as it is.

    Raises:
        ValueError: no similarity has that name.

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
    """Return the device that computes similarities for networks on ``device``: that one if it is a GPU, else the CPU.

    GPUs of CUDA and ROCm have kernels for `CosCubed`, `SoftWPMI` and `WPMI`.
    """
    device = torch.device(device)
    return device if device.type == "cuda" else torch.device("cpu")
