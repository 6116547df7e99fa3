"""Names of the neurons of a recording: labels, tables, files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import Self

from lwta.dissection.recording.loading import Skipped
from lwta.dissection.recording.preprocessing import Transform
from lwta.dissection.recording.recording import Recording
from lwta.dissection.similarity import Similarity, find_similarity, similarities_of
from lwta.dissection.words.concepts import Concepts
from lwta.dissection.words.encoder import Encoder
from lwta.images import Probe
from lwta.support.exports import as_csv, escaped_cell, write_file
from lwta.support.ranking import largest, pack, unpack
from lwta.support.tables import Column, text_table
from lwta.support.text import did_you_mean, printable


class Label(NamedTuple):
    """Concept that one neuron stands for, with its score and the next best concepts.

    Example:
        >>> label = Label("act", 0, "cat", 1.5, 7, (("dog", 1.25),))
        >>> label.concept, label.runner_ups[0]
        ('cat', ('dog', 1.25))
    """

    layer: str
    neuron: int
    concept: str | None
    """Name of the concept; None for a dead neuron."""
    score: float
    """Similarity with the concept; NaN for a dead neuron."""
    wins: int | None
    """Number of images on which the neuron won; None in a layer without competition."""
    runner_ups: tuple[tuple[str, float], ...]
    """Runners-up: the next best concepts and their scores."""


@dataclass(frozen=True, eq=False)
class Naming:
    """Named neurons of a recording; naming them needs neither the images nor the network again.

    `lwta.dissection.Dissection` adds scores, explanations, search and reports.
    """

    model: nn.Module | None = field(repr=False)
    """The dissected network; None if the dissection was opened from a store."""
    transform: Transform | None = field(repr=False)
    probe: Probe = field(repr=False)
    clip: Encoder
    recording: Recording = field(repr=False)
    concepts: Concepts = field(repr=False)
    similarity: str
    """Name of the similarity that chose the labels."""
    _scores: dict[str, Tensor] = field(repr=False)
    device: torch.device = field(default=torch.device("cpu"), repr=False)
    """Device that computes similarities: a GPU, or the CPU."""

    @property
    def layers(self) -> list[str]:
        """Keys of the dissected layers: "fc", or "fc:softmax" where a function of its outputs was asked for."""
        return list(self._scores)

    @property
    def skipped(self) -> list[Skipped]:
        """Images that could not be read, with the reason."""
        return self.recording.skipped

    def similarities(self, layer: str) -> Tensor:
        """Return the similarity of every neuron with every concept, (D, M) float32; NaN for dead neurons.

        Raises:
            ValueError: the layer was not dissected.
        """
        return self._scores[self._known(layer)]

    def labels(self, layer: str, *, runner_ups: int = 4) -> list[Label]:
        """Return the label of every neuron of a layer, in their order; of equal scores the earlier concept comes first.

        Args:
            layer: one of `layers`.
            runner_ups: number of runners-up in each label.

        Raises:
            ValueError: the layer was not dissected.
        """
        scores, wins = self.similarities(layer), self._wins[layer]
        best = largest(pack(scores.nan_to_num(), torch.arange(len(self.concepts))), 1 + runner_ups)
        labels = []
        for neuron, row in enumerate(best):
            values, concepts = (part.tolist() for part in unpack(row))
            named = [(self.concepts.names[c], v) for c, v in zip(concepts, values, strict=True)]
            if scores[neuron].isnan().any():
                named = [(None, float("nan"))]
            (concept, score), *others = named
            labels.append(Label(layer, neuron, concept, score, None if wins is None else wins[neuron], tuple(others)))
        return labels

    def dead(self, layer: str) -> list[int]:
        """Return the dead neurons: those that won on no image or, without competition, were 0 on all.

        Raises:
            ValueError: the layer was not dissected.
        """
        return (~self.recording.active(self._known(layer))).nonzero().flatten().tolist()

    def top_images(self, layer: str, neuron: int, n: int = 5) -> list[tuple[str, float]]:
        """Return key and activation of the ``n`` images that excite a neuron most, or of all on which it won if fewer.

        Args:
            layer: one of `layers`.
            neuron: number of the neuron in the layer.
            n: how many images at most.

        Raises:
            ValueError: the layer was not dissected, or has no such neuron.
        """
        neurons = len(self.similarities(layer))
        if not 0 <= neuron < neurons:
            raise ValueError(f"neuron must be 0…{neurons - 1} in layer {layer!r}, got {neuron}")
        return self.recording.top_images(layer, n)[neuron]

    def relabel(
        self,
        concepts: Concepts | Sequence[str] | str | Path | None = None,
        similarity: str | Callable[[], Similarity] = "soft_wpmi",
    ) -> Self:
        """Name the same neurons by other concepts or another similarity, without touching the images.

        Args:
            concepts: as in `lwta.dissection.dissect`; None for those of this dissection.
            similarity: as in `lwta.dissection.dissect`.

        Returns:
            A dissection of the same recording; this one stays as it is.

        Raises:
            ValueError: no similarity has that name, there is no concept, or one that CLIP cannot encode.
            FileNotFoundError: there is no such file of concepts.
        """
        make_similarity = find_similarity(similarity)
        concepts = self.concepts if concepts is None else Concepts.of(concepts)
        scores = similarities_of(self.recording, make_similarity, concepts.encode(self.clip).to(self.device))
        return replace(self, concepts=concepts, similarity=make_similarity().name, _scores=scores)

    def to_csv(self, path: str | Path, layer: str | None = None, *, runner_ups: int = 4) -> None:
        """Write the labels of one layer, or of all, one neuron a line.

        Columns: layer, neuron, concept, score, wins, runner_up_1, runner_up_1_score, and so on. Cells are empty where
        there is no value: concept and score of a dead neuron, wins without competition. The file is UTF-8 with plain
        line feeds, scores have five digits behind the point: the same labels give the same bytes.

        A layer or concept that a spreadsheet would run as a formula, as it begins with ``=``, ``+``, ``-``, ``@``, a
        tab or the end of a line, is escaped by an apostrophe before it; `lwta.support.exports.unescaped_cell` takes it
        away again. Numbers are never escaped. The file appears whole or not at all; devices, pipes and links are
        written to as they are.

        Args:
            path: path of the file.
            layer: one of `layers`; None for all.
            runner_ups: number of runners-up of each neuron.

        Raises:
            ValueError: the layer was not dissected.
            OSError: the file cannot be written.
        """
        header = ["layer", "neuron", "concept", "score", "wins"]
        for place in range(1, runner_ups + 1):
            header += [f"runner_up_{place}", f"runner_up_{place}_score"]
        rows = [header]
        for name in self.layers if layer is None else [self._known(layer)]:
            for label in self.labels(name, runner_ups=runner_ups):
                wins = "" if label.wins is None else str(label.wins)
                cells = [escaped_cell(name), str(label.neuron), escaped_cell(label.concept or ""), _number(label.score)]
                cells.append(wins)
                for concept, score in label.runner_ups:
                    cells += [escaped_cell(concept), _number(score)]
                rows.append(cells + [""] * (len(header) - len(cells)))
        write_file(path, as_csv(rows))

    def table(self, layer: str, rows: int | None = 20) -> str:
        """Return the labels of a layer as a table for the terminal: the first ``rows`` neurons, or all (None).

        Raises:
            ValueError: the layer was not dissected.
        """
        labels = self.labels(layer, runner_ups=3)
        shown = labels[:rows]
        columns = [
            Column("neuron", [str(label.neuron) for label in shown], right=True),
            Column("concept", [label.concept or "–" for label in shown]),
            Column("score", [_number(label.score, 3) for label in shown], right=True),
            Column("wins", ["–" if label.wins is None else str(label.wins) for label in shown], right=True),
            Column("runner-ups", [", ".join(concept for concept, _ in label.runner_ups) for label in shown]),
        ]
        if all(label.wins is None for label in shown):
            del columns[3]
        lines = [self._headline(layer), text_table(columns)]
        if len(labels) > len(shown):
            lines.append(f"… and {len(labels) - len(shown)} neurons more")
        return "\n".join(lines)

    def __str__(self) -> str:
        return "\n\n".join(self.table(layer) for layer in self.layers)

    def _headline(self, layer: str) -> str:
        dead = len(self.dead(layer))
        never = "never won" if self._wins[layer] is not None else "never active"
        transform = self.recording.transform(layer)
        counts = [
            f"{len(self.similarities(layer))} neurons{'' if transform == 'identity' else f' after {transform}'}",
            f"{len(self.recording.keys)} images",
            f"{len(self.concepts)} concepts",
        ]
        return f"{printable(layer)}: {', '.join(counts + [f'{dead} {never}'] * bool(dead))}"

    def _known(self, layer: str) -> str:
        if layer not in self._scores:
            hint = did_you_mean(layer, self.layers) or f"; dissected: {', '.join(self.layers)}"
            raise ValueError(f"layer must be one that was dissected, {layer!r} was not{hint}")
        return layer

    @cached_property
    def _wins(self) -> dict[str, list[int] | None]:
        counts = {layer: self.recording.wins(layer) for layer in self.layers}
        return {layer: None if wins is None else wins.tolist() for layer, wins in counts.items()}


def _number(value: float, digits: int = 5) -> str:
    """Number with a fixed count of digits behind the point; an empty text for NaN."""
    return "" if value != value else f"{value:.{digits}f}"


def label_indices(similarities: Tensor) -> Tensor:
    """Index of each neuron's most similar concept, (D,) int64, the earlier of equals; −1 for a neuron without a label.

    Args:
        similarities: (D, M), NaN for dead neurons.

    Example:
        >>> label_indices(torch.tensor([[0.1, 0.3, 0.3], [float("nan")] * 3]))
        tensor([ 1, -1])
    """
    largest = similarities.amax(1, keepdim=True)
    return torch.where(largest.isnan()[:, 0], -1, (similarities == largest).int().argmax(1))
