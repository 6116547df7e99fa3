"""Audit of the labels of all layers: concepts shared, concepts missing, blocks that divide a concept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lwta.dissection.labels.naming import Naming
from lwta.dissection.trust.abstention import NEVER
from lwta.support.tables import Column, text_table


@dataclass(frozen=True)
class SharedConcept:
    """Concept that neurons of several layers carry."""

    concept: str
    neurons: dict[str, list[int]]
    """Neurons that carry the concept by layer, in the order of the layers."""


@dataclass(frozen=True)
class DividedBlock:
    """Block of which several competitors carry one concept."""

    layer: str
    block: int
    """Number of the block; its units are block·U to block·U + U − 1."""
    concept: str
    neurons: list[int]
    """Competitors that carry the concept, at least two."""
    shares: list[float]
    """Share of the block's wins that each of them has, over all positions of all images."""


@dataclass(frozen=True)
class Audit:
    """Audit of the labels of a network: what stands out in them; as text, a table.

    Only labels count: a neuron that no word fits carries no concept, whatever comes closest.

    Example:
        >>> shared = SharedConcept("cat", {"act": [0, 1], "fc": [3]})
        >>> print(Audit(5, [shared], ["a yak"], [], neurons=6, dead=1, no_word_fits=2))
        3 of 6 neurons have a label; of 2 no word fits, and 1 is never active.
        <BLANKLINE>
        1 of 5 concepts are carried in several layers:
        concept  layers  neurons
        cat           2  act: 0, 1; fc: 3
        <BLANKLINE>
        1 of 5 concepts are carried by no neuron: a yak
        <BLANKLINE>
        No block has competitors that carry the same concept.
    """

    concepts: int
    """Number of concepts."""
    shared: list[SharedConcept]
    """Shared concepts: those in most layers first, then those of most neurons, then by name."""
    missing: list[str]
    """Concepts that no neuron carries, in their order."""
    divided: list[DividedBlock]
    """Blocks of which several competitors carry one concept, by layer and block."""
    neurons: int = 0
    """Number of neurons of all layers, with and without a label."""
    dead: int = 0
    """Number of neurons without a label as they are never active."""
    no_word_fits: int = 0
    """Number of further neurons without a label."""

    def table(self, rows: int | None = 20) -> str:
        """Return the audit as text for the terminal, with the first ``rows`` of each list or all (None)."""
        shared = f"{len(self.shared)} of {self.concepts} concepts are carried in several layers"
        missing = f"{len(self.missing)} of {self.concepts} concepts are carried by no neuron"
        divided = f"{len(self.divided)} times competitors of a block carry the same concept"
        parts = ["No concept is carried in several layers.", "Every concept is carried by a neuron."]
        parts.append("No block has competitors that carry the same concept.")
        if self.shared:
            parts[0] = f"{shared}:\n{_shared_table(self.shared[:rows])}{_more(len(self.shared), rows)}"
        if self.missing:
            left = f", … and {len(self.missing) - rows} more" if rows is not None and len(self.missing) > rows else ""
            parts[1] = f"{missing}: {', '.join(self.missing[:rows])}{left}"
        if self.divided:
            parts[2] = f"{divided}:\n{_divided_table(self.divided[:rows])}{_more(len(self.divided), rows)}"
        return "\n\n".join([self._counts(), *parts])

    def _counts(self) -> str:
        """Sentence of how many neurons have a label."""
        none = []
        if self.no_word_fits:
            none.append(f"of {self.no_word_fits} no word fits")
        if self.dead:
            none.append(f"{self.dead} {'is' if self.dead == 1 else 'are'} never active")
        labelled = self.neurons - self.dead - self.no_word_fits
        return f"{labelled} of {self.neurons} neurons have a label{'; ' * bool(none)}{', and '.join(none)}."

    def to_dict(self) -> dict[str, Any]:
        """Return the audit as numbers, texts, lists and dictionaries alone."""
        return asdict(self)

    def __str__(self) -> str:
        return self.table()


def audit(dissection: Naming) -> Audit:
    """Audit the labels of all layers; see `lwta.dissection.Dissection.audit`."""
    names = dissection.concepts.names
    labels = {layer: dissection.label_indices(layer).tolist() for layer in dissection.layers}
    carriers: dict[int, dict[str, list[int]]] = {}
    for layer, concepts in labels.items():
        for neuron, concept in enumerate(concepts):
            if concept >= 0:
                carriers.setdefault(concept, {}).setdefault(layer, []).append(neuron)
    shared = [SharedConcept(names[concept], layers) for concept, layers in carriers.items() if len(layers) > 1]
    shared.sort(key=lambda one: (-len(one.neurons), -sum(map(len, one.neurons.values())), one.concept))
    missing = [name for concept, name in enumerate(names) if concept not in carriers]
    divided = [block for layer in labels for block in _divided(dissection, layer, labels[layer])]
    reasons = [reason for layer in dissection.layers for reason in dissection.reasons(layer)]
    dead = reasons.count(NEVER)
    without = len(reasons) - reasons.count(None) - dead
    return Audit(len(names), shared, missing, divided, len(reasons), dead, without)


def _divided(dissection: Naming, layer: str, labels: list[int]) -> list[DividedBlock]:
    shares = dissection.recording.block_shares(layer)
    if shares is None:
        return []
    competitors, of_block = shares.shape[1], shares.flatten().tolist()
    found = []
    for first in range(0, len(labels), competitors):
        units = range(first, first + competitors)
        for concept in dict.fromkeys(labels[unit] for unit in units if labels[unit] >= 0):
            carrying = [unit for unit in units if labels[unit] == concept]
            if len(carrying) > 1:
                name = dissection.concepts.names[concept]
                each = [of_block[unit] for unit in carrying]
                found.append(DividedBlock(layer, first // competitors, name, carrying, each))
    return found


def _shared_table(shared: list[SharedConcept]) -> str:
    where = [
        "; ".join(f"{layer}: {', '.join(map(str, neurons))}" for layer, neurons in one.neurons.items())
        for one in shared
    ]
    return text_table(
        [
            Column("concept", [one.concept for one in shared]),
            Column("layers", [str(len(one.neurons)) for one in shared], right=True),
            Column("neurons", where),
        ]
    )


def _divided_table(divided: list[DividedBlock]) -> str:
    wins = [
        ", ".join(f"{neuron} ({share:.0%})" for neuron, share in zip(one.neurons, one.shares, strict=True))
        for one in divided
    ]
    return text_table(
        [
            Column("layer", [one.layer for one in divided]),
            Column("block", [str(one.block) for one in divided], right=True),
            Column("concept", [one.concept for one in divided]),
            Column("neurons and their shares of the block's wins", wins),
        ]
    )


def _more(count: int, rows: int | None) -> str:
    return f"\n… and {count - rows} more" if rows is not None and count > rows else ""
