"""Figures of a layer: how much of it is used, how readable its neurons are, how far their labels can be trusted."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lwta.dissection.recording.activations import WinnerActivations
from lwta.dissection.recording.recording import Recording
from lwta.dissection.scoring.trust_figures import TrustFigures
from lwta.support.exports import without_nan
from lwta.winner_usage import entropy_of


class LayerScores(NamedTuple):
    """Scores of one layer; NaN where a score is not defined.

    Example:
        >>> LayerScores("act", 4, r=0.4, ceiling=0.5).ceiling_share
        0.8
    """

    layer: str
    """Name of the layer."""
    neurons: int
    """Number of neurons, D."""
    competitors: int | None = None
    """Competitors in a block, U; None without competition."""
    dead: int = 0
    """Number of dead neurons: those that won on no image or, without competition, were 0 on all."""
    active_per_image: float = math.nan
    """Share of the neurons that are active on an image, mean over the images: that win at some position or, without
    competition, whose pooled output is other than 0. At a single position it is 1/U."""
    winner_entropy: float = math.nan
    """Evenness of the wins in a block, from 0 to 1, mean over the blocks: see the function `winner_entropy`."""
    similarity: str = ""
    """Name of the labeler."""
    labelled: float = math.nan
    """Share of the neurons that have a label."""
    distinct_concepts: int = 0
    """Number of different concepts among the labels."""
    redundancy: float = math.nan
    """Share of the labelled neurons whose concept another neuron of the layer carries as well; 0 if all differ."""
    r: float = math.nan
    """Correlation of a neuron's activation with what its words predict, on images by which they were not chosen: mean
    over the neurons, with or without a label."""
    told_apart: float = math.nan
    """Share of the neurons that their words predict better than any other neuron of the layer; by chance 1/D."""
    reciprocal_rank: float = math.nan
    """Mean of 1/rank, the rank of a neuron among those that its words predict."""
    ceiling: float = math.nan
    """Correlation that all dimensions of CLIP's embeddings reach, mean over the neurons: see
    `lwta.dissection.trust.ceiling.ceiling`."""
    auprc: float = math.nan
    """Average precision with which the probability of the words finds the images that excite a neuron most, mean over
    the neurons, on images by which the words were not chosen: see `lwta.dissection.scoring.judges`."""
    f1: float = math.nan
    """F1 of the same images and that probability, mean over the neurons."""
    iou: float = math.nan
    """Intersection over union of the same, mean over the neurons."""
    probability_r: float = math.nan
    """Correlation of activation and that probability, mean over the neurons."""
    stable: float = math.nan
    """Number of concepts that carry 90 % of the choices on images drawn anew, mean over the neurons: 1 if every draw
    gives the same. See `lwta.dissection.trust.stability`."""
    monosemanticity: float = math.nan
    """Mean monosemanticity of the neurons for which it is defined: see
    `lwta.dissection.scoring.neuron_figures.monosemanticity`."""
    monosemanticity_shuffled: float = math.nan
    """The same with activations shuffled over the images, for comparison."""
    controls: tuple[TrustFigures, ...] = ()
    """Figures of the labels where there is nothing for them to say."""

    @property
    def ceiling_share(self) -> float:
        """Share of the ceiling that the words reach."""
        return self.r / self.ceiling if self.ceiling > 0 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as numbers, texts, lists and dictionaries alone; None for NaN."""
        controls = [without_nan(control._asdict()) for control in self.controls]
        return {**without_nan({**self._asdict(), "ceiling_share": self.ceiling_share}), "controls": controls}


def winner_entropy(recording: Recording, layer: str) -> float:
    """Evenness of the wins in a block: −Σ_u p_u·log p_u / log U with the competitors' shares p, mean over the blocks.

    Wins are those of all positions of all images. It is 1 if all U competitors win equally often, 0 if one always wins,
    NaN without competition and for U = 1.

    Example:
        >>> from lwta.dissection.recording.activations import pool_winners
        >>> from lwta.dissection.recording.one_pass import Encoded
        >>> from lwta.dissection.recording.recording import MemoryRecording
        >>> from lwta import Winners
        >>> wins = pool_winners(Winners(torch.ones(2, 1), torch.tensor([[0], [1]]), 2), "mean")
        >>> batch = Encoded(0, ["a", "b"], [None, None], torch.eye(2), {"act": wins}, [])
        >>> winner_entropy(MemoryRecording([batch], [], "mean"), "act")
        1.0
    """
    return float(block_entropies(recording, layer).mean())


def block_entropies(recording: Recording, layer: str) -> Tensor:
    """Evenness of the wins in each block, (B,) float64 in 0…1; empty without competition and for U = 1."""
    p = recording.block_shares(layer)
    if p is None or p.shape[1] == 1:
        return torch.empty(0, dtype=torch.float64)
    return entropy_of(p)


def active_per_image(recording: Recording, layer: str) -> float:
    """Share of the neurons that are active on an image, mean over the images: see `LayerScores`."""
    active = 0
    for shard in recording.shards(layer):
        found = shard.activations
        active += len(found.values) if isinstance(found, WinnerActivations) else int((found.values != 0).sum())
    return active / (len(recording.keys) * len(recording.active(layer)))


def redundancy(labels: Tensor) -> float:
    """Share of the labelled neurons whose concept another neuron carries too; NaN if none is labelled.

    Args:
        labels: (D,) int64, index of each neuron's concept; −1 for none.

    Example:
        >>> redundancy(torch.tensor([4, 7, 4, 2, -1]))
        0.5
    """
    labels = labels[labels >= 0]
    counts = labels.bincount()
    return int((counts[labels] > 1).sum()) / len(labels) if len(labels) else math.nan
