"""Findings about the prediction on one image, as data, text and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from lwta.dissection.explaining.heat_map import overlaid
from lwta.dissection.labels.label import WORDS_SHOWN, shown
from lwta.support.exports import write_json
from lwta.support.tables import Column, text_table
from lwta.support.text import did_you_mean, printable


@dataclass(frozen=True)
class ClassProbability:
    """Probability of a class for one image, over the draws of the winners.

    Example:
        >>> chance = ClassProbability(0, "cat", mean=0.9, std=0.05)
        >>> f"{chance.name}: {chance.mean:.0%} ± {chance.std:.0%}"
        'cat: 90% ± 5%'
    """

    index: int
    name: str
    mean: float
    """Mean over the draws."""
    std: float
    """Standard deviation over the draws; 0 for a single one."""


@dataclass(frozen=True)
class Evidence:
    """Neuron that was active on the image, and its contribution to the explained class.

    Example:
        >>> evidence = Evidence("act", 3, "whiskers", activation=2.0, share=1.0, contribution=0.75)
        >>> f"neuron {evidence.neuron}, {evidence.concept}: {evidence.contribution:+}"
        'neuron 3, whiskers: +0.75'
        >>> Evidence("act", 4, None, 1.0, 1.0, 0.5, words=("dog",), reason="predicts too little").label_text()
        'no word fits (closest: dog)'
    """

    layer: str
    neuron: int
    concept: str | None
    """Label of the neuron; None if no word fits it, or it is dead on the probing set, for the ``reason``."""
    activation: float
    """Output of the neuron, pooled as in the dissection but before a softmax; it may be negative, for a winner too."""
    share: float
    """Share of the image's positions that it won; 1 without positions or without competition."""
    contribution: float
    """Attribution by activation × gradient: output times the gradient of the explained logit (or the difference of two)
    with respect to it, summed over the positions; with pooling "cls", at the class token."""
    where: Tensor | None = field(default=None, repr=False, compare=False)
    """Output of the neuron at each position, or each token on the grid, (h, w) float32; 0 where it lost. None where the
    layer has no positions, and for all but the neurons of each layer that contribute most."""
    words: tuple[str, ...] = ()
    """Words of the label or, where no word fits, those that come closest; most weight first, none for a dead neuron."""
    reason: str | None = None
    """Why no word fits; None for a neuron with a label."""

    @property
    def closest(self) -> str | None:
        """Word of the list that comes closest to the neuron, whether it fits or not; None for a dead neuron."""
        return self.words[0] if self.words else self.concept

    def label_text(self) -> str:
        """Return what a table shows of the neuron's label."""
        return shown(self.words[:WORDS_SHOWN] or [self.concept or ""], self.concept is not None, self.reason)


@dataclass(frozen=True)
class Findings:
    """Findings about a prediction, neuron by neuron, as data, text and JSON; `Explanation` adds the page."""

    predicted: int
    """Index of the predicted class: that of the highest probability, averaged over the draws."""
    class_name: str
    probability: float
    """Probability of the predicted class, averaged over the draws."""
    logit: float
    """Logit of the predicted class in the first draw."""
    target: int
    """Index of the explained class."""
    target_name: str
    versus: int | None
    """Index of the class with which the explained one is compared, or None."""
    versus_name: str | None
    explained_logit: float
    """Number that the contributions are to: the target's logit in the first draw, less that of ``versus`` if given."""
    draws: int
    probabilities: list[ClassProbability]
    """Probabilities of the most probable classes, at most five, and of ``target`` and ``versus``."""
    evidence: dict[str, list[Evidence]]
    """Neurons that were active in the first draw, by layer; the largest contributions, for or against, come first."""
    seen: Image.Image | None = field(default=None, repr=False)
    """Input of the network as a picture of full contrast: what it saw. None for inputs that are no picture."""

    @property
    def question(self) -> str:
        """Name of the explained class, with the one it is compared with: "cat rather than dog"."""
        return self.target_name if self.versus is None else f"{self.target_name} rather than {self.versus_name}"

    def heat_map(self, evidence: Evidence, size: int = 256) -> Image.Image:
        """Return a picture of where the neuron is active over what the network saw: positive output red, negative blue.

        Args:
            evidence: a neuron with positions.
            size: length of the longer side in pixels.

        Raises:
            ValueError: the evidence has no positions, or the input was no picture.
        """
        if evidence.where is None or self.seen is None:
            raise ValueError(
                f"evidence must have positions to be mapped; neuron {evidence.neuron} of {evidence.layer} has none"
            )
        return overlaid(self.seen, evidence.where, size)

    def table(self, rows: int | None = 10) -> str:
        """Return a table for the terminal, with the first ``rows`` contributing neurons of each layer or all (None)."""
        lines = [f"predicted: {printable(self.class_name)} ({self.probability:.1%})"]
        if self.draws > 1:
            chances = (f"{printable(one.name)} {one.mean:.1%} ± {one.std:.1%}" for one in self.probabilities)
            lines = [lines[0], f"over {self.draws} draws: {', '.join(chances)}"]
        if (self.target, self.versus) != (self.predicted, None):
            lines.append(f"explained: {printable(self.question)}")
        for layer, evidence in self.evidence.items():
            listed = [one for one in evidence if one.contribution][:rows]
            columns = [
                Column("contribution", [f"{one.contribution:+.3f}" for one in listed], right=True),
                Column("activation", [f"{one.activation:+.3f}" for one in listed], right=True),
                Column("neuron", [str(one.neuron) for one in listed], right=True),
                Column("concept", [one.label_text() for one in listed]),
            ]
            lines += ["", f"{printable(layer)}: {len(evidence)} neurons active", text_table(columns)]
        return "\n".join(lines)

    def to_dict(self, *, rows: int | None = None, maps: bool = False) -> dict[str, Any]:
        """Return the findings as numbers, texts, lists and dictionaries alone.

        Args:
            rows: how many neurons of each layer, the largest contributions first; None for all.
            maps: whether to add the maps of where neurons are active, as lists of rows.
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
        """Write `to_dict` to a JSON file in UTF-8."""
        write_json(self.to_dict(rows=rows, maps=maps), path)

    def __str__(self) -> str:
        return self.table()


def _plain(row: ClassProbability | Evidence) -> dict[str, Any]:
    plain = {column.name: getattr(row, column.name) for column in fields(row) if column.name != "where"}
    return {**plain, "words": list(row.words), "closest": row.closest} if isinstance(row, Evidence) else plain


def _with_map(evidence: Evidence, maps: bool) -> dict[str, Any]:
    where = {"where": None if evidence.where is None else evidence.where.tolist()}
    return {**_plain(evidence), **(where if maps else {})}


def class_index(name: str, wanted: int | str | None, class_names: Sequence[str] | None, classes: int) -> int | None:
    """Return the index of a class that is given by its index or name; None for None.

    Args:
        name: name of the argument, for messages.
        wanted: the class.
        class_names: names of the classes, if they are known.
        classes: number of the classes.

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
