"""Scores of a dissection, and tables of several networks side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lwta.dissection.labels.naming import Naming
from lwta.dissection.moments.folds import folds_of
from lwta.dissection.moments.measuring import moments_of, sample_of
from lwta.dissection.scoring.identification import Identification, identify
from lwta.dissection.scoring.judges import JudgeFigures, concept_probabilities, judge_probabilities
from lwta.dissection.scoring.layer_figures import LayerScores, active_per_image, redundancy, winner_entropy
from lwta.dissection.scoring.neuron_figures import monosemanticity
from lwta.dissection.scoring.trust_figures import TrustFigures, controls, shuffled, trust_figures, verdict
from lwta.dissection.similarity import FromMoments, Similarity, similarity_of_layer
from lwta.dissection.trust.ceiling import ceiling
from lwta.dissection.trust.stability import resampled, stable_sets
from lwta.models.config import class_names_of
from lwta.support.exports import without_nan, write_json
from lwta.support.tables import Column, text_table

CONTROLS = (
    "Controls: of shuffled activations and by other neurons' words there is nothing to say; a layer whose own axes "
    "mean something does better than its random rotation:\n"
)


@dataclass(frozen=True)
class Scores:
    """Scores of a network: how readable each layer is, and how its output neurons are named; as text, a table.

    Example:
        >>> layer = LayerScores("act", 4, 2, labelled=0.5, distinct_concepts=2, r=0.4, told_apart=0.75, ceiling=0.5)
        >>> print(Scores([layer], None, images=100, similarity="linear"))
        layer  neurons  U  dead  active  entropy  labelled  concepts  redundant  mono  told apart     r  ceiling  AUPRC
        act          4  2     0       –        –       50%         2          –     –         75%  0.40     0.50      –
    """

    layers: list[LayerScores]
    identification: Identification | None
    """Identification of the output neurons; None where their names are not known."""
    images: int
    """Number of images in the probing set."""
    similarity: str
    """Name of the similarity that chose the labels."""

    def table(self) -> str:
        """Return the scores as tables for the terminal: of the layers, of their controls, and of the output neurons."""
        return compare({"": self})

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as numbers, texts, lists and dictionaries alone; None for NaN."""
        return {
            "images": self.images,
            "similarity": self.similarity,
            "layers": [row.to_dict() for row in self.layers],
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
    similarity: str | Callable[[], Similarity] | None = None,
    others: Mapping[str, Naming] | None = None,
    controls: bool = True,
) -> Scores:
    """Score a dissection; arguments and errors are those of `lwta.dissection.Dissection.scores`.

    Raises:
        ValueError: ``output_layer`` does not fit, the similarity must be given, or there are others but no controls.
    """
    if others and not controls:
        names = ", ".join(map(repr, others))
        raise ValueError(f"others must not be given with controls=False, as they are controls; got {names}")
    class_names = class_names_of(dissection.model) if class_names is None else class_names
    output = _output_layer(dissection, class_names, output_layer)
    identification = None if class_names is None or output is None else identify(dissection, output, class_names)
    labeler = similarity or dissection.similarity
    rows = [_layer(dissection, layer, labeler) for layer in dissection.layers]
    if controls:
        rows = [_with_controls(row, dissection, labeler, others or {}) for row in rows]
    return Scores(rows, identification, len(dissection.recording.keys), dissection.similarity)


def _layer(dissection: Naming, layer: str, similarity: str | Callable[[], Similarity]) -> LayerScores:
    recording, chosen = dissection.recording, dissection.chosen(layer)
    labels, active = dissection.label_indices(layer), recording.active(layer)
    named = labels[labels >= 0]
    moments, sample = moments_of(recording, layer), sample_of(recording, layer)
    mean = moments.statistics().mean
    mono, null = (
        float(monosemanticity(values, sample.features, mean).nanmean())
        for values in (sample.values, shuffled(sample.values))
    )
    trust = trust_figures(layer, chosen.trust, active)
    judged = judge_left_out(dissection, layer)
    return LayerScores(
        layer,
        neurons=len(labels),
        competitors=recording.competitors(layer),
        dead=len(dissection.dead(layer)),
        active_per_image=active_per_image(recording, layer),
        winner_entropy=winner_entropy(recording, layer),
        similarity=chosen.similarity,
        labelled=len(named) / len(labels),
        distinct_concepts=len(named.unique()),
        redundancy=redundancy(labels),
        r=trust.r,
        told_apart=trust.told_apart,
        reciprocal_rank=trust.reciprocal_rank,
        ceiling=float(ceiling(moments).nanmean()),
        auprc=float(judged.auprc.nanmean()),
        f1=float(judged.f1.nanmean()),
        iou=float(judged.iou.nanmean()),
        probability_r=float(judged.probability_r.nanmean()),
        stable=_mean_size(stable_concepts(dissection, layer, similarity)),
        monosemanticity=mono,
        monosemanticity_shuffled=null,
    )


def _with_controls(
    row: LayerScores, dissection: Naming, similarity: str | Callable[[], Similarity], others: Mapping[str, Naming]
) -> LayerScores:
    return row._replace(controls=tuple(controls(dissection, row.layer, similarity, others)))


def judge_left_out(dissection: Naming, layer: str) -> JudgeFigures:
    """Judge the words of a layer on the sampled images that were left out when they were chosen.

    The probability of several words is the mean of theirs by weight.

    Args:
        dissection: named neurons.
        layer: one of its layers.
    """
    sample, texts = sample_of(dissection.recording, layer), dissection.concepts.encode(dissection.clip)
    folds = folds_of(sample.keys)
    probabilities = torch.full(sample.values.shape, torch.nan)
    for part, words in dissection.chosen(layer).left_out:
        rows = torch.isin(folds, torch.tensor(part))
        weights = words.weights / words.weights.sum(1, keepdim=True)
        probabilities[rows] = sum(
            concept_probabilities(sample.features[rows], texts, concepts).nan_to_num(nan=0) * weight.float()
            for concepts, weight in zip(words.concepts.T, weights.T, strict=True)
        )
    kept = ~probabilities.isnan().all(1)
    return judge_probabilities(sample.values[kept], probabilities[kept])


def stable_concepts(dissection: Naming, layer: str, similarity: str | Callable[[], Similarity]) -> list[list[int]]:
    """Return for each neuron the concepts that carry 90 % of the choices on images drawn anew; see `stable_sets`.

    Similarities that have to see the images choose on the parts of cross-validation instead.

    Args:
        dissection: named neurons.
        layer: one of its layers.
        similarity: the labeler.
    """
    one = similarity_of_layer(similarity, dissection.recording, layer)()
    if isinstance(one, FromMoments):
        moments, texts = moments_of(dissection.recording, layer), dissection.concepts.encode(dissection.clip)
        return stable_sets(resampled(one, moments, texts))
    return stable_sets(words for _, words in dissection.chosen(layer).left_out)


def _mean_size(sets: Sequence[Sequence[int]]) -> float:
    sizes = [len(one) for one in sets if one]
    return sum(sizes) / len(sizes) if sizes else torch.nan


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
    controlled = [(name, row) for name, row in rows if row.controls]
    if controlled:
        parts.append(CONTROLS + _controls(controlled))
    verdicts = [verdict(trust_of(row), f"{name}, {row.layer}" if name else row.layer) for name, row in rows]
    parts += [sentence for sentence in verdicts if sentence is not None]
    return "\n\n".join(parts)


def trust_of(row: LayerScores) -> TrustFigures:
    """Return the figures of a layer as it is, to compare with those of its controls."""
    return TrustFigures("the layer", row.labelled, row.r, row.told_apart, row.reciprocal_rank, 0)


def _controls(rows: Sequence[tuple[str, LayerScores]]) -> str:
    """Table with the layers as they are and their controls, one below the other."""
    lines = [(name, row.layer, figures) for name, row in rows for figures in (trust_of(row), *row.controls)]
    columns = [
        *_network([name for name, _, _ in lines]),
        Column("layer", [layer for _, layer, _ in lines]),
        Column("labels of", [figures.name for *_, figures in lines]),
        Column("labelled", [_share(figures.labelled) for *_, figures in lines], right=True),
        Column("told apart", [_share(figures.told_apart) for *_, figures in lines], right=True),
        Column("1/rank", [_number(figures.reciprocal_rank) for *_, figures in lines], right=True),
        Column("r", [_number(figures.r) for *_, figures in lines], right=True),
    ]
    return text_table(columns)


def _network(names: Sequence[str]) -> list[Column]:
    return [Column("network", names)] if any(names) else []


def _layer_columns(rows: Sequence[LayerScores]) -> list[Column]:
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
        Column("told apart", [_share(row.told_apart) for row in rows], right=True),
        Column("r", [_number(row.r) for row in rows], right=True),
        Column("ceiling", [_number(row.ceiling) for row in rows], right=True),
        Column("AUPRC", [_number(row.auprc) for row in rows], right=True),
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
