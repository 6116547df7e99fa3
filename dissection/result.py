"""The result of a dissection: labels, tables, files."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from lwta.dissection.concepts import Concepts
from lwta.dissection.encoder import Encoder
from lwta.dissection.loading import Skipped, Transform
from lwta.dissection.recording import Recording
from lwta.dissection.similarity import Similarity, find_similarity
from lwta.dissection.similarity.top import largest, pack, unpack
from lwta.dissection.table import Column, text_table
from lwta.dissection.words import did_you_mean
from lwta.images import Probe

if TYPE_CHECKING:
    from lwta.dissection.audit import Audit
    from lwta.dissection.explaining import Explained, Explanation
    from lwta.dissection.scoring.scores import Scores
    from lwta.dissection.search import Found


class Label(NamedTuple):
    """What one neuron stands for."""

    layer: str
    neuron: int
    concept: str | None
    """None for a neuron that never answered."""
    score: float
    """NaN for a neuron that never answered."""
    wins: int | None
    """On how many images the neuron won; None in a layer without competition."""
    runner_ups: tuple[tuple[str, float], ...]
    """The next best concepts and their scores."""


@dataclass(frozen=True, eq=False)
class Dissection:
    """What `dissect` found. It keeps what was recorded, so other concepts and similarities need no second pass."""

    model: nn.Module | None = field(repr=False)
    """None if the dissection was opened from a store."""
    transform: Transform | None = field(repr=False)
    probe: Probe = field(repr=False)
    clip: Encoder
    recording: Recording = field(repr=False)
    concepts: Concepts = field(repr=False)
    similarity: str
    """Its name."""
    _scores: dict[str, Tensor] = field(repr=False)
    device: torch.device = field(default=torch.device("cpu"), repr=False)
    """Where similarities are computed: a GPU, or the CPU."""

    @property
    def layers(self) -> list[str]:
        """Names of the dissected layers."""
        return list(self._scores)

    @property
    def skipped(self) -> list[Skipped]:
        """Images that could not be read, with the reason."""
        return self.recording.skipped

    def similarities(self, layer: str) -> Tensor:
        """(D, M) float32: similarity of every neuron with every concept, NaN for neurons that never answered."""
        return self._scores[self._known(layer)]

    def labels(self, layer: str, *, runner_ups: int = 4) -> list[Label]:
        """The label of every neuron of the layer, in their order; equal scores go to the earlier concept.

        Args:
            layer: one of `layers`.
            runner_ups: how many further concepts to name.

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
        """The neurons that never answered: that won on no image or, without competition, gave 0 on all."""
        return (~self.recording.answered(self._known(layer))).nonzero().flatten().tolist()

    def top_images(self, layer: str, neuron: int, n: int = 5) -> list[tuple[str, float]]:
        """Key and activation of the ``n`` images that excite the neuron most, or of all on which it won if fewer.

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
    ) -> Dissection:
        """The same neurons by other concepts (None: the same) or another similarity, without touching the images."""
        make_similarity = find_similarity(similarity)
        concepts = self.concepts if concepts is None else Concepts.of(concepts)
        scores = self.recording.scores(make_similarity, concepts.encode(self.clip).to(self.device))
        return replace(self, concepts=concepts, similarity=make_similarity().name, _scores=scores)

    def explain(
        self,
        image: Image.Image,
        *,
        layers: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        target: int | str | None = None,
        versus: int | str | None = None,
        draws: int = 1,
        seed: int = 0,
    ) -> Explanation:
        """Why the network sees in one image what it sees: see `lwta.dissection.explain`.

        Raises:
            ValueError: the dissection was opened from a store, without the network.
        """
        from lwta.dissection.explaining import explain

        if self.model is None:
            raise ValueError(
                "explaining takes the network, and a store holds none: call lwta.dissection.explain with it"
            )
        return explain(
            *(self.model, image, self),
            layers=layers,
            class_names=class_names,
            target=target,
            versus=versus,
            draws=draws,
            seed=seed,
        )

    def to_csv(self, path: str | Path, layer: str | None = None, *, runner_ups: int = 4) -> None:
        """Write the labels of one layer, or of all, one neuron a line.

        Columns: layer, neuron, concept, score, wins, runner_up_1, runner_up_1_score, and so on. What there is not is
        empty: a dead neuron's concept and score, wins without competition. UTF-8 with plain line feeds, scores with
        five digits behind the point: the same labels give the same bytes.
        """
        header = ["layer", "neuron", "concept", "score", "wins"]
        for place in range(1, runner_ups + 1):
            header += [f"runner_up_{place}", f"runner_up_{place}_score"]
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            for name in self.layers if layer is None else [self._known(layer)]:
                for label in self.labels(name, runner_ups=runner_ups):
                    cells = [name, label.neuron, label.concept, _number(label.score), label.wins]
                    for concept, score in label.runner_ups:
                        cells += [concept, _number(score)]
                    writer.writerow(cells + [None] * (len(header) - len(cells)))

    def to_report(
        self,
        folder: str | Path,
        *,
        title: str = "What the neurons stand for",
        top: int = 6,
        explained: Sequence[Explained] = (),
        progress: bool = True,
    ) -> Path:
        """Write the atlas, with a page for each layer and explained image: see `lwta.dissection.atlas.write_atlas`."""
        from lwta.dissection.atlas import write_atlas

        return write_atlas(self, folder, title=title, top=top, explained=explained, progress=progress)

    def scores(
        self,
        class_names: Sequence[str] | None = None,
        output_layer: str | None = None,
        held_out: float = 0.3,
        similarity: str | Callable[[], Similarity] | None = None,
    ) -> Scores:
        """How readable every layer is, and how well the output neurons are identified.

        To check the labels, the neurons are named once more by a part of the images, and it is tried on the others
        whether the concepts say which of them excite the neurons. An image belongs to the others by a hash of its key,
        so that networks are checked on the same images. All other figures are of the dissection as it is.

        Args:
            class_names: of the output neurons, in their order; None takes those that a network of `lwta.create_model`
                carries, if it does.
            output_layer: the layer they belong to; None is the last one without competition of as many neurons.
            held_out: share of the images on which the labels are checked, in [0, 1); 0 checks nothing.
            similarity: by which the neurons are named for this; None is the one of that name with its default
                parameters, so give your own if you have changed any.

        Raises:
            ValueError: ``held_out`` is out of range, ``output_layer`` was not dissected, is given without names or has
                another number of neurons, or the similarity is not one of the library's and must be given.
        """
        from lwta.dissection.scoring.scores import score

        return score(self, class_names, output_layer, held_out, similarity)

    def search(
        self,
        text: str,
        n: int = 10,
        layers: Sequence[str] | None = None,
        similarity: str | Callable[[], Similarity] | None = None,
    ) -> list[Found]:
        """The neurons that are most similar to any text, best first; equal ones in the order of layers and neurons.

        The text is scored as one concept beside those of the dissection, by the images that excite the neurons: so
        neurons are found that carry another label, and no label has to resemble the text. A text that is a concept, but
        for case, underscores and hyphens, is answered at once; another takes a pass over the recording. Scores of
        different layers are comparable as far as the similarity makes them so: sums over a neuron's images are.

        Args:
            text: a word or phrase that CLIP can encode; with precomputed embeddings, one of which there is one.
            n: how many neurons at most. Those that never answered are not found.
            layers: some of `layers`; None for all.
            similarity: as in `scores`.

        Raises:
            ValueError: ``n`` is below 1, a layer was not dissected, or the text cannot be encoded; concepts close to it
                are named.
        """
        from lwta.dissection.search import search

        return search(self, text, n, layers, similarity)

    def audit(self) -> Audit:
        """Concepts that several layers share, concepts that no neuron carries, blocks that divide one concept."""
        from lwta.dissection.audit import audit

        return audit(self)

    def table(self, layer: str, rows: int | None = 20) -> str:
        """The labels of a layer for the terminal, of the first ``rows`` neurons or of all (None)."""
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
        never = "never won" if self._wins[layer] is not None else "never answered"
        counts = [
            f"{len(self.similarities(layer))} neurons",
            f"{len(self.recording.keys)} images",
            f"{len(self.concepts)} concepts",
        ]
        return f"{layer}: {', '.join(counts + [f'{dead} {never}'] * bool(dead))}"

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
    """Fixed digits; nothing for NaN."""
    return "" if value != value else f"{value:.{digits}f}"
