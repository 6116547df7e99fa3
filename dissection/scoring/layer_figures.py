"""Figures of a layer: how much of it is used, how readable its neurons are, how true their labels are."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lwta.dissection.recording.activations import WinnerActivations
from lwta.dissection.recording.recording import Recording
from lwta.winner_usage import entropy_of


class LayerScores(NamedTuple):
    """Scores of one layer; NaN where a score is not defined.

    Example:
        >>> figures = dict.fromkeys(LayerScores._fields, 0.0)
        >>> LayerScores(**{**figures, "layer": "act", "monosemanticity": 0.7}).monosemanticity
        0.7
    """

    layer: str
    """Name of the layer."""
    neurons: int
    """Number of neurons, D."""
    competitors: int | None
    """Competitors in a block, U; None without competition."""
    dead: int
    """Number of dead neurons: those that won on no image or, without competition, were 0 on all."""
    active_per_image: float
    """Share of the neurons that are active on an image, mean over the images: that win at some position or, without
    competition, whose pooled output is other than 0. At a single position it is 1/U."""
    winner_entropy: float
    """Evenness of the wins in a block, from 0 to 1, mean over the blocks: see the function `winner_entropy`."""
    labelled: float
    """Share of the neurons that have a label."""
    distinct_concepts: int
    """Number of different concepts among the labels."""
    redundancy: float
    """Share of the labelled neurons whose concept another neuron of the layer carries as well; 0 if all differ."""
    monosemanticity: float
    """Mean monosemanticity of the neurons for which it is defined: see
    `lwta.dissection.scoring.neuron_figures.monosemanticity`."""
    auc: float
    """Area under the ROC curve, mean over the neurons: how well concepts predict which held-out images excite them; by
    chance 0.5. See `lwta.dissection.scoring.label_auc.concept_aucs`."""
    auc_low: float
    """Lower end of the 95 % confidence interval of ``auc`` over the neurons, by the normal approximation."""
    auc_high: float
    """Upper end of the same interval."""


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
