"""Similarities by name, and which one labels which layer by default."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lwta.dissection.recording.recording import Recording
from lwta.dissection.similarity.base import Similarity
from lwta.dissection.similarity.correlation import Correlation, check_contrast
from lwta.dissection.similarity.cos import Cos
from lwta.dissection.similarity.cos_cubed import CosCubed
from lwta.dissection.similarity.jsd import JSD
from lwta.dissection.similarity.linear import Linear
from lwta.dissection.similarity.peak import Peak
from lwta.dissection.similarity.rank_reorder import RankReorder
from lwta.dissection.similarity.soft_wpmi import SoftWPMI
from lwta.dissection.similarity.specific import Specific
from lwta.dissection.similarity.wpmi import WPMI

SIMILARITIES: dict[str, Callable[[], Similarity]] = {
    Correlation.name: Correlation,
    Cos.name: Cos,
    CosCubed.name: CosCubed,
    JSD.name: JSD,
    Linear.name: Linear,
    Peak.name: Peak,
    RankReorder.name: RankReorder,
    SoftWPMI.name: SoftWPMI,
    Specific.name: Specific,
    WPMI.name: WPMI,
}
"""Similarities by name, as `dissect` and `Dissection.relabel` take them."""

COMPARING = (Correlation, Linear, Peak, Specific)
"""Similarities that compare a concept with the others, so that one alone has no score."""
AUTO = "auto"
"""Name that stands for `Peak` for layers after a softmax, whose neurons each have a class, and for `Linear` for others.

Which class a neuron stands for and what it follows over its whole range are two questions. Both were chosen by the
table of ``python -m benchmarks labels``.
"""


def find_similarity(similarity: str | Callable[[], Similarity]) -> str | Callable[[], Similarity]:
    """Check a similarity as users give it, and return it as it is.

    Args:
        similarity: "auto"; a name among `SIMILARITIES`, for the default parameters; or any callable that makes an
            accumulator, such as ``partial(SoftWPMI, top_k=50)``.

    Raises:
        ValueError: no similarity has that name.

    Example:
        >>> find_similarity("cos")
        'cos'
    """
    if isinstance(similarity, str) and similarity != AUTO and similarity not in SIMILARITIES:
        known = ", ".join(map(repr, (AUTO, *SIMILARITIES)))
        raise ValueError(f"similarity must be one of {known}, got {similarity!r}")
    return similarity


def check_concepts(similarity: str | Callable[[], Similarity], concepts: int) -> None:
    """Check that there are as many concepts as a similarity takes: some compare a concept with the others.

    Args:
        similarity: as in `find_similarity`.
        concepts: number of concepts.

    Raises:
        ValueError: there is only one.
    """
    make = (Linear if similarity == AUTO else SIMILARITIES[similarity]) if isinstance(similarity, str) else similarity
    if isinstance(make(), COMPARING):
        check_contrast(concepts)


def similarity_of_layer(
    similarity: str | Callable[[], Similarity], recording: Recording, layer: str
) -> Callable[[], Similarity]:
    """Return a callable that makes a fresh accumulator for a layer.

    Args:
        similarity: as in `find_similarity`.
        recording: the recording that the layer belongs to, which knows its function.
        layer: key of the layer.

    Raises:
        ValueError: no similarity has that name.
    """
    similarity = find_similarity(similarity)
    if not isinstance(similarity, str):
        return similarity
    if similarity == AUTO:
        return Peak if recording.transform(layer) == "softmax" else Linear
    return SIMILARITIES[similarity]


def scoring_device(device: torch.device | str) -> torch.device:
    """Return the device that computes similarities for networks on ``device``: that one if it is a GPU, else the CPU.

    GPUs of CUDA and ROCm have kernels for `CosCubed`, `SoftWPMI` and `WPMI`.
    """
    device = torch.device(device)
    return device if device.type == "cuda" else torch.device("cpu")
