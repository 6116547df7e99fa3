"""What the pages say of a layer and of each of its neurons."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isnan

from lwta.dissection.labels.naming import Label, Naming
from lwta.dissection.recording.recording import Recording
from lwta.dissection.scoring.layer_figures import block_entropies
from lwta.dissection.scoring.neuron_figures import neuron_scores

RUNNER_UPS = 4


@dataclass(frozen=True)
class Card:
    """A neuron."""

    label: Label
    share: float | None
    """Of all images and positions, how much it won; None without competition."""
    monosemanticity: float | None
    classes: list[tuple[str, float]]
    """Of the images that it won, or that excite it most, and their share."""
    images: list[tuple[str, float]]
    """Key and activation."""

    @property
    def words(self) -> str:
        """What a search looks through."""
        concepts = [self.label.concept, *(concept for concept, _ in self.label.runner_ups)]
        return "\n".join(concept for concept in concepts if concept is not None).lower()


@dataclass(frozen=True)
class LayerCards:
    """A layer."""

    name: str
    number: int
    """From 1 on."""
    cards: list[Card]
    competitors: int | None
    active: float
    """Mean share of units other than 0."""
    balance: list[float]
    """Of each block, the entropy of who wins over log U: 1 if all win alike. Empty without competition."""

    @property
    def page(self) -> str:
        """File of its page."""
        return f"layer-{self.number:02d}.html"

    @cached_property
    def labelled(self) -> list[Card]:
        """Neurons with a concept."""
        return [card for card in self.cards if card.label.concept is not None]

    @property
    def dead(self) -> int:
        """Number of dead neurons."""
        return len(self.cards) - len(self.labelled)

    @cached_property
    def blocks(self) -> list[list[Card]]:
        """Competitors together; without competition one block of all."""
        size = self.competitors or len(self.cards)
        return [self.cards[start : start + size] for start in range(0, len(self.cards), size)]

    @cached_property
    def scores(self) -> list[float]:
        """Of the labelled neurons."""
        return [card.label.score for card in self.labelled]

    @cached_property
    def monosemanticities(self) -> list[float]:
        """Those that are defined."""
        return [card.monosemanticity for card in self.cards if card.monosemanticity is not None]

    @cached_property
    def concepts(self) -> dict[str, int]:
        """How many neurons each concept names, the most frequent first."""
        counts: dict[str, int] = {}
        for card in self.labelled:
            counts[str(card.label.concept)] = counts.get(str(card.label.concept), 0) + 1
        return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))

    def figures(self) -> dict[str, object]:
        """For JSON."""
        mean = sum(self.monosemanticities) / len(self.monosemanticities) if self.monosemanticities else None
        return {
            "layer": self.name,
            "page": self.page,
            "neurons": len(self.cards),
            "competitors": self.competitors,
            "active_share": self.active,
            "labelled": len(self.labelled) / len(self.cards),
            "dead": self.dead,
            "distinct_concepts": len(self.concepts),
            "monosemanticity": mean,
        }


def gather(dissection: Naming, layer: str, number: int, top: int) -> LayerCards:
    """Everything of one layer."""
    recording = dissection.recording
    shares, known = recording.win_shares(layer), neuron_scores(recording, layer)
    images = recording.top_images(layer, top)
    cards = []
    for label in dissection.labels(layer, runner_ups=RUNNER_UPS):
        monosemanticity = float(known.monosemanticity[label.neuron])
        share = None if shares is None else float(shares[label.neuron])
        classes = known.classes[label.neuron]
        cards.append(
            Card(label, share, None if isnan(monosemanticity) else monosemanticity, classes, images[label.neuron])
        )
    balance = block_entropies(recording, layer).tolist()
    return LayerCards(layer, number, cards, recording.competitors(layer), _active(recording, layer), balance)


def _active(recording: Recording, layer: str) -> float:
    """Of a competition 1/U; else the share of outputs other than 0."""
    competitors = recording.competitors(layer)
    if competitors is not None:
        return 1 / competitors
    outputs = active = 0
    for shard in recording.shards(layer):
        values = shard.activations.dense()
        outputs, active = outputs + values.numel(), active + int(values.count_nonzero())
    return active / outputs
