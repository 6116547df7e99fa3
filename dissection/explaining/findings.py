"""Evidence for the prediction on one image, as data, text and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from lwta.dissection.explaining.heat_map import overlaid
from lwta.support.exports import write_json
from lwta.support.tables import Column, text_table
from lwta.support.text import did_you_mean, printable


@dataclass(frozen=True)
class ClassProbability:
    """How probable a class is."""

    index: int
    name: str
    mean: float
    """Over the draws of the winners."""
    std: float
    """Standard deviation over the draws; 0 for a single one."""


@dataclass(frozen=True)
class Evidence:
    """Neuron that was active on the image, and its contribution to the explained class."""

    layer: str
    neuron: int
    concept: str | None
    """Label of the neuron; None if it is dead on the probe."""
    activation: float
    """Its output, pooled as in the dissection; may be negative, for a winner too."""
    share: float
    """Share of the image's positions that it won; 1 without positions or without competition."""
    contribution: float
    """Output times gradient of the explained logit, or difference of two logits, with respect to it, summed over the
    positions; with pooling "cls", at the class token."""
    where: Tensor | None = field(default=None, repr=False, compare=False)
    """(h, w) float32: its output at each position, 0 where it lost; of tokens, on their grid. None where the layer has
    no positions, and for all but the neurons of each layer that contribute most."""


@dataclass(frozen=True)
class Findings:
    """Evidence for a prediction, neuron by neuron, as data, text and JSON; `Explanation` adds the page."""

    predicted: int
    """Index of the class of the highest probability, averaged over the draws."""
    class_name: str
    probability: float
    """Of the class predicted, averaged over the draws."""
    logit: float
    """Of the class predicted, in the first draw."""
    target: int
    """Index of the class explained."""
    target_name: str
    versus: int | None
    """Index of the class it is compared with."""
    versus_name: str | None
    explained_logit: float
    """What the contributions are to, in the first draw: the target's logit, less that of ``versus``."""
    draws: int
    probabilities: list[ClassProbability]
    """The most probable classes, at most five, and those explained."""
    evidence: dict[str, list[Evidence]]
    """By layer, the neurons that were active in the first draw, the largest contributions, for or against, first."""
    seen: Image.Image | None = field(default=None, repr=False)
    """What the network saw: its input as a picture, of full contrast. None for inputs that are no picture."""

    @property
    def question(self) -> str:
        """What is explained, in words."""
        return self.target_name if self.versus is None else f"{self.target_name} rather than {self.versus_name}"

    def heat_map(self, evidence: Evidence, size: int = 256) -> Image.Image:
        """Picture of where the neuron is active, over what the network saw: red for positive output, else blue.

        Args:
            evidence: with positions.
            size: pixels of the longer side.

        Raises:
            ValueError: the evidence has no positions, or the input was no picture.
        """
        if evidence.where is None or self.seen is None:
            raise ValueError(
                f"evidence must have positions to be mapped; neuron {evidence.neuron} of {evidence.layer} has none"
            )
        return overlaid(self.seen, evidence.where, size)

    def table(self, rows: int | None = 10) -> str:
        """For the terminal, with the first ``rows`` neurons of each layer that contributed, or all of them (None)."""
        lines = [f"predicted: {printable(self.class_name)} ({self.probability:.1%})"]
        if self.draws > 1:
            chances = (f"{printable(one.name)} {one.mean:.1%} ± {one.std:.1%}" for one in self.probabilities)
            lines = [lines[0], f"over {self.draws} draws: {', '.join(chances)}"]
        if (self.target, self.versus) != (self.predicted, None):
            lines.append(f"explained: {printable(self.question)}")
        for layer, evidence in self.evidence.items():
            shown = [one for one in evidence if one.contribution][:rows]
            columns = [
                Column("contribution", [f"{one.contribution:+.3f}" for one in shown], right=True),
                Column("activation", [f"{one.activation:+.3f}" for one in shown], right=True),
                Column("neuron", [str(one.neuron) for one in shown], right=True),
                Column("concept", [one.concept or "–" for one in shown]),
            ]
            lines += ["", f"{printable(layer)}: {len(evidence)} neurons active", text_table(columns)]
        return "\n".join(lines)

    def to_dict(self, *, rows: int | None = None, maps: bool = False) -> dict[str, Any]:
        """Numbers, texts, lists and dictionaries alone.

        Args:
            rows: neurons of each layer, the largest contributions first; None for all.
            maps: also the maps of where they are active, as lists of rows.
        """
        names = ("predicted", "class_name", "probability", "logit", "target", "target_name", "versus", "versus_name")
        return {
            **{name: getattr(self, name) for name in (*names, "explained_logit", "draws")},
            "probabilities": [_plain(one) for one in self.probabilities],
            "evidence": {
                layer: [_with_map(one, maps) for one in found[:rows]] for layer, found in self.evidence.items()
            },
        }

    def to_json(self, path: str | Path, *, rows: int | None = None, maps: bool = False) -> None:
        """Write `to_dict` as UTF-8."""
        write_json(self.to_dict(rows=rows, maps=maps), path)

    def __str__(self) -> str:
        return self.table()


def _plain(row: ClassProbability | Evidence) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in fields(row) if column.name != "where"}


def _with_map(evidence: Evidence, maps: bool) -> dict[str, Any]:
    where = {"where": None if evidence.where is None else evidence.where.tolist()}
    return {**_plain(evidence), **(where if maps else {})}


def class_index(name: str, wanted: int | str | None, class_names: Sequence[str] | None, classes: int) -> int | None:
    """Index of a class, by its index or name.

    Raises:
        ValueError: there is no such class.
    """
    if wanted is None:
        return None
    if isinstance(wanted, str):
        names = list(class_names or [])
        if wanted not in names:
            hint = did_you_mean(wanted, names) if names else "; class_names were not given"
            raise ValueError(f"{name} must be a class, {wanted!r} is none{hint}")
        same = [index for index, one in enumerate(names) if one == wanted]
        if len(same) > 1:
            raise ValueError(f"{name} must be a class, {wanted!r} names {len(same)}: give one of the indices {same}")
        return same[0]
    if not 0 <= wanted < classes:
        raise ValueError(f"{name} must be 0…{classes - 1}, got {wanted}")
    return wanted
