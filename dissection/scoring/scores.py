"""Scores of a dissection, and tables of several networks side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwta.dissection.labels.naming import Naming, label_indices
from lwta.dissection.scoring.held_out import Part, is_held_out
from lwta.dissection.scoring.identification import Identification, identify
from lwta.dissection.scoring.label_auc import Interval, concept_aucs, confidence, contrasts
from lwta.dissection.scoring.layer_figures import LayerScores, active_per_image, redundancy, winner_entropy
from lwta.dissection.scoring.neuron_figures import monosemanticity
from lwta.dissection.similarity import Similarity, find_similarity, similarities_of
from lwta.models.config import class_names_of
from lwta.support.exports import without_nan, write_json
from lwta.support.tables import Column, text_table

NOTHING = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Scores:
    """Scores of a network: how readable each layer is, and how its output neurons are named; as text, a table.

    Example:
        >>> layer = LayerScores("act", 4, 2, 0, 0.5, 0.91, 1.0, 3, 0.5, 0.74, 0.81, 0.77, 0.85)
        >>> print(Scores([layer], None, images=100, held_out=30, similarity="soft_wpmi"))
        layer  neurons  U  dead  active  entropy  labelled  concepts  redundant  mono   AUC  95 %
        act          4  2     0     50%     0.91      100%         3        50%  0.74  0.81  0.77–0.85
        <BLANKLINE>
        AUC on 30 of 100 images, which had no part in the labels; 0.50 by chance
    """

    layers: list[LayerScores]
    identification: Identification | None
    """Identification of the output neurons; None where their names are not known."""
    images: int
    """Number of images in the probing set."""
    held_out: int
    """Number of images on which labels were checked, and which had no part in those labels; 0 if none was checked."""
    similarity: str
    """Name of the similarity that chose the labels."""

    def table(self) -> str:
        """Return the scores as a table for the terminal."""
        return compare({"": self})

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as numbers, texts, lists and dictionaries alone; None for NaN."""
        return {
            "images": self.images,
            "held_out": self.held_out,
            "similarity": self.similarity,
            "layers": [without_nan(row._asdict()) for row in self.layers],
            "identification": None if self.identification is None else without_nan(self.identification._asdict()),
        }

    def to_json(self, path: str | Path) -> None:
        """Write `to_dict` to a JSON file in UTF-8."""
        write_json(self.to_dict(), path)

    def __str__(self) -> str:
        return self.table()


def score(
    dissection: Naming,
    class_names: Sequence[str] | None = None,
    output_layer: str | None = None,
    held_out: float = 0.3,
    similarity: str | Callable[[], Similarity] | None = None,
) -> Scores:
    """Score a dissection; arguments and errors are those of `lwta.dissection.Dissection.scores`.

    Raises:
        ValueError: ``held_out`` is out of range, ``output_layer`` does not fit, or the similarity must be given.
    """
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out must be a share of the images, 0 or more and less than 1, got {held_out}")
    class_names = class_names_of(dissection.model) if class_names is None else class_names
    output = _output_layer(dissection, class_names, output_layer)
    identification = None if class_names is None or output is None else identify(dissection, output, class_names)
    images = len(dissection.recording.keys)
    aucs, checked = _check(dissection, held_out, similarity or dissection.similarity)
    rows = [_layer(dissection, layer, aucs.get(layer, NOTHING)) for layer in dissection.layers]
    return Scores(rows, identification, images, checked, dissection.similarity)


def _layer(dissection: Naming, layer: str, auc: Interval) -> LayerScores:
    recording = dissection.recording
    labels = label_indices(dissection.similarities(layer))
    named = labels[labels >= 0]
    mono = monosemanticity(recording, layer)
    return LayerScores(
        layer,
        neurons=len(labels),
        competitors=recording.competitors(layer),
        dead=len(dissection.dead(layer)),
        active_per_image=active_per_image(recording, layer),
        winner_entropy=winner_entropy(recording, layer),
        labelled=len(named) / len(labels),
        distinct_concepts=len(named.unique()),
        redundancy=redundancy(labels),
        monosemanticity=float(mono.nanmean()),
        auc=auc.mean,
        auc_low=auc.low,
        auc_high=auc.high,
    )


def _check(
    dissection: Naming, held_out: float, similarity: str | Callable[[], Similarity]
) -> tuple[dict[str, Interval], int]:
    """AUC by layer on one part of the images of labels from the other part, and the number of images in the first."""
    recording, concepts = dissection.recording, dissection.concepts.encode(dissection.clip).to(dissection.device)
    labelling = Part(recording, lambda key: not is_held_out(key, held_out))
    checking = Part(recording, lambda key: is_held_out(key, held_out))
    if not labelling.keys or not checking.keys:
        return {}, 0
    similarities = similarities_of(labelling, find_similarity(similarity), concepts)
    return {
        layer: confidence(concept_aucs(checking, layer, contrasts(label_indices(similarities[layer]), concepts)))
        for layer in dissection.layers
    }, len(checking.keys)


def _output_layer(dissection: Naming, names: Sequence[str] | None, layer: str | None) -> str | None:
    """Output layer: the one asked for, or the last without competition that has a neuron for each name."""
    if layer is not None:
        if names is None:
            raise ValueError(f"class_names must be given with output_layer={layer!r}: the network says nothing of them")
        return layer
    if names is None:
        return None
    sizes = {name: len(dissection.similarities(name)) for name in dissection.layers}
    fitting = [
        name for name, size in sizes.items() if size == len(names) and dissection.recording.competitors(name) is None
    ]
    return fitting[-1] if fitting else None


def compare(scores: Mapping[str, Scores]) -> str:
    """Put the scores of several networks into one table: the same layers one below the other, then the output neurons.

    Args:
        scores: scores by the names of the networks.

    Raises:
        ValueError: ``scores`` is empty.
    """
    if not scores:
        raise ValueError("scores must hold the scores of at least one network, got none")
    order = list(dict.fromkeys(row.layer for one in scores.values() for row in one.layers))
    rows = [(name, row) for layer in order for name, one in scores.items() for row in one.layers if row.layer == layer]
    parts = [text_table(_network([name for name, _ in rows]) + _layer_columns([row for _, row in rows]))]
    outputs = [(name, one.identification) for name, one in scores.items() if one.identification is not None]
    if outputs:
        columns = _output_columns([found for _, found in outputs])
        parts.append("Output neurons:\n" + text_table(_network([name for name, _ in outputs]) + columns))
    counts = sorted({(one.held_out, one.images) for one in scores.values() if one.held_out})
    for held_out, images in counts:
        parts.append(f"AUC on {held_out} of {images} images, which had no part in the labels; 0.50 by chance")
    return "\n\n".join(parts)


def _network(names: Sequence[str]) -> list[Column]:
    return [Column("network", names)] if any(names) else []


def _layer_columns(rows: Sequence[LayerScores]) -> list[Column]:
    intervals = ["–" if row.auc_low != row.auc_low else f"{row.auc_low:.2f}–{row.auc_high:.2f}" for row in rows]
    return [
        Column("layer", [row.layer for row in rows]),
        Column("neurons", [str(row.neurons) for row in rows], right=True),
        Column("U", [str(row.competitors or "–") for row in rows], right=True),
        Column("dead", [str(row.dead) for row in rows], right=True),
        Column("active", [_share(row.active_per_image) for row in rows], right=True),
        Column("entropy", [_number(row.winner_entropy) for row in rows], right=True),
        Column("labelled", [_share(row.labelled) for row in rows], right=True),
        Column("concepts", [str(row.distinct_concepts) for row in rows], right=True),
        Column("redundant", [_share(row.redundancy) for row in rows], right=True),
        Column("mono", [_number(row.monosemanticity) for row in rows], right=True),
        Column("AUC", [_number(row.auc) for row in rows], right=True),
        Column("95 %", intervals),
    ]


def _output_columns(rows: Sequence[Identification]) -> list[Column]:
    return [
        Column("layer", [row.layer for row in rows]),
        Column("neurons", [str(row.neurons) for row in rows], right=True),
        Column("nameable", [str(row.nameable) for row in rows], right=True),
        Column("top-1", [_share(row.top1) for row in rows], right=True),
        Column("top-5", [_share(row.top5) for row in rows], right=True),
        Column("CLIP cosine", [_number(row.clip_cosine) for row in rows], right=True),
        Column("mpnet cosine", [_number(row.mpnet_cosine) for row in rows], right=True),
    ]


def _share(value: float) -> str:
    return "–" if value != value else f"{value:.0%}"


def _number(value: float) -> str:
    return "–" if value != value else f"{value:.2f}"
