"""Names of the neurons of a recording: labels, tables, files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from typing_extensions import Self

from lwta.dissection.labels.choosing import Chosen, choose
from lwta.dissection.labels.label import Label
from lwta.dissection.labels.listing import csv_rows, label_table
from lwta.dissection.recording.loading import Skipped
from lwta.dissection.recording.preprocessing import Transform
from lwta.dissection.recording.recording import Recording
from lwta.dissection.similarity import AUTO, Similarity, find_similarity
from lwta.dissection.trust.abstention import NEVER, NOTHING, Abstention
from lwta.dissection.words.concepts import Concepts
from lwta.dissection.words.encoder import Encoder
from lwta.images import Probe
from lwta.support.exports import as_csv, write_file
from lwta.support.ranking import largest, pack, unpack
from lwta.support.text import did_you_mean, printable


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
    """Name of the similarity that chose the labels; "auto" chooses one for each layer: see `chosen`."""
    _chosen: dict[str, Chosen] = field(repr=False)
    device: torch.device = field(default=torch.device("cpu"), repr=False)
    """Device that computes similarities: a GPU, or the CPU."""
    abstention: Abstention | None = field(default_factory=Abstention)
    """Rule by which a neuron that no word fits gets no label; None labels every neuron that is not dead."""

    @property
    def layers(self) -> list[str]:
        """Keys of the dissected layers: "fc", or "fc:softmax" where a function of its outputs was asked for."""
        return list(self._chosen)

    @property
    def skipped(self) -> list[Skipped]:
        """Images that could not be read, with the reason."""
        return self.recording.skipped

    def similarities(self, layer: str) -> Tensor:
        """Return the similarity of every neuron with every concept, (D, M) float32; NaN for dead neurons.

        Raises:
            ValueError: the layer was not dissected.
        """
        return self._chosen[self._known(layer)].scores

    def chosen(self, layer: str) -> Chosen:
        """Return the words chosen for every neuron, shown or not, with the trust in them and the similarity's name.

        Raises:
            ValueError: the layer was not dissected.
        """
        return self._chosen[self._known(layer)]

    def reasons(self, layer: str) -> list[str | None]:
        """Return for each neuron why it has no label; None where it has one.

        Raises:
            ValueError: the layer was not dissected.
        """
        active, chosen = self.recording.active(self._known(layer)), self._chosen[layer]
        if self.abstention is not None:
            return self.abstention.reasons(chosen.trust, active)
        named = (chosen.words.concepts[:, 0] >= 0).tolist()
        return [
            None if fits else NOTHING if alive else NEVER for fits, alive in zip(named, active.tolist(), strict=True)
        ]

    def label_indices(self, layer: str) -> Tensor:
        """Return the index of each neuron's concept, (D,) int64; −1 where it has no label.

        Raises:
            ValueError: the layer was not dissected.
        """
        shown = torch.tensor([reason is None for reason in self.reasons(layer)], dtype=torch.bool)
        return torch.where(shown, self._chosen[layer].words.concepts[:, 0], -1)

    def labels(self, layer: str, *, runner_ups: int = 4) -> list[Label]:
        """Return the label of every neuron of a layer, in their order; of equal scores the earlier concept comes first.

        Args:
            layer: one of `layers`.
            runner_ups: number of runners-up in each label.

        Raises:
            ValueError: the layer was not dissected.
        """
        chosen, wins, names = self._chosen[self._known(layer)], self._wins[layer], self.concepts.names
        best = largest(pack(chosen.scores.nan_to_num(), torch.arange(len(names))), 1 + runner_ups)
        labels = []
        for neuron, reason in enumerate(self.reasons(layer)):
            words = chosen.words_of(neuron)
            first = words[0][0] if words else -1
            values, concepts = (part.tolist() for part in unpack(best[neuron]))
            others = [(names[c], v) for v, c in zip(values, concepts, strict=True) if c != first]
            if chosen.scores[neuron].isnan().any():
                others = []
            labels.append(
                Label(
                    layer,
                    neuron,
                    concept=names[first] if words and reason is None else None,
                    score=float(chosen.scores[neuron, first]) if words else math.nan,
                    wins=None if wins is None else wins[neuron],
                    runner_ups=tuple(others[:runner_ups]),
                    reason=reason,
                    words=tuple((names[c], w) for c, w in words),
                    **chosen.trust.of(neuron),
                )
            )
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
        similarity: str | Callable[[], Similarity] = AUTO,
        *,
        abstain: bool | None = None,
    ) -> Self:
        """Name the same neurons by other concepts or another similarity, without touching the images.

        Args:
            concepts: as in `lwta.dissection.dissect`; None for those of this dissection.
            similarity: as in `lwta.dissection.dissect`.
            abstain: as in `lwta.dissection.dissect`; None for the rule of this dissection.

        Returns:
            A dissection of the same recording; this one stays as it is.

        Raises:
            ValueError: no similarity has that name, there is no concept, or one that CLIP cannot encode.
            FileNotFoundError: there is no such file of concepts.
        """
        similarity = find_similarity(similarity)
        concepts = self.concepts if concepts is None else Concepts.of(concepts)
        chosen = choose(self.recording, similarity, concepts.encode(self.clip).to(self.device))
        rule = self.abstention if abstain is None else Abstention() if abstain else None
        name = similarity if isinstance(similarity, str) else similarity().name
        return replace(self, concepts=concepts, similarity=name, _chosen=chosen, abstention=rule)

    def to_csv(self, path: str | Path, layer: str | None = None, *, runner_ups: int = 4) -> None:
        """Write the labels of one layer, or of all, one neuron a line.

        Columns: layer, neuron, concept, score, wins, reason, words (with their weights), r, r_low, r_high, rank,
        told_apart, null_percentile, then runner_up_1, runner_up_1_score, and so on. Cells are empty where there is no
        value: the concept of a neuron that no word fits, wins without competition. The file is UTF-8 with plain line
        feeds, numbers have five digits behind the point: the same labels give the same bytes. docs/labels.md has the
        schema.

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
        named = self.layers if layer is None else [self._known(layer)]
        labels = [label for name in named for label in self.labels(name, runner_ups=runner_ups)]
        write_file(path, as_csv(csv_rows(labels, runner_ups)))

    def table(self, layer: str, rows: int | None = 20) -> str:
        """Return the labels of a layer as a table for the terminal: the first ``rows`` neurons, or all (None).

        Raises:
            ValueError: the layer was not dissected.
        """
        return "\n".join([self._headline(layer), label_table(self.labels(layer, runner_ups=3), rows)])

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
        if self.abstention is not None:
            counts.append(f"a word fits {sum(reason is None for reason in self.reasons(layer))}")
        return f"{printable(layer)}: {', '.join(counts + [f'{dead} {never}'] * bool(dead))}"

    def _known(self, layer: str) -> str:
        if layer not in self._chosen:
            hint = did_you_mean(layer, self.layers) or f"; dissected: {', '.join(self.layers)}"
            raise ValueError(f"layer must be one that was dissected, {layer!r} was not{hint}")
        return layer

    @cached_property
    def _wins(self) -> dict[str, list[int] | None]:
        counts = {layer: self.recording.wins(layer) for layer in self.layers}
        return {layer: None if wins is None else wins.tolist() for layer, wins in counts.items()}
