"""Cards: what the atlas shows of a layer and of each of its neurons."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isnan

from lwta.dissection.labels.label import Label
from lwta.dissection.labels.naming import Naming
from lwta.dissection.recording.layers import LayerTransform
from lwta.dissection.recording.recording import Recording
from lwta.dissection.scoring.layer_figures import block_entropies
from lwta.dissection.scoring.neuron_figures import neuron_scores

RUNNER_UPS = 4


@dataclass(frozen=True)
class Card:
    """Card of a neuron."""

    label: Label
    share: float | None
    """Share of all images and positions that the neuron won; None without competition."""
    monosemanticity: float | None
    """Monosemanticity; None where it is not defined."""
    classes: list[tuple[str, float]]
    """Most frequent classes of the images that it won (without competition, that excite it most), and their shares."""
    images: list[tuple[str, float]]
    """Key and activation of the top images."""

    @property
    def words(self) -> str:
        """Text that a search looks through: the concepts of label and runners-up in lower case, one a line."""
        concepts = [self.label.concept, *(concept for concept, _ in self.label.runner_ups)]
        return "\n".join(concept for concept in concepts if concept is not None).lower()


@dataclass(frozen=True)
class LayerCards:
    """Cards of the neurons of a layer, with the figures of the layer."""

    name: str
    number: int
    """Number of the layer in the atlas, from 1 on."""
    cards: list[Card]
    competitors: int | None
    active: float
    """Share of the units that are active: 1/U at each position of a competition, else that of outputs other than 0."""
    balance: list[float]
    """Evenness of the wins in each block, 1 if all competitors win equally often; empty without competition."""
    transform: LayerTransform = "identity"
    """Function of the layer's outputs that stands for the activations."""

    @property
    def page(self) -> str:
        """File name of the layer's page."""
        return f"layer-{self.number:02d}.html"

    @cached_property
    def labelled(self) -> list[Card]:
        """Cards of the neurons with a label."""
        return [card for card in self.cards if card.label.concept is not None]

    @property
    def dead(self) -> int:
        """Number of dead neurons."""
        return len(self.cards) - len(self.labelled)

    @cached_property
    def blocks(self) -> list[list[Card]]:
        """Cards block by block; without competition all are one block."""
        size = self.competitors or len(self.cards)
        return [self.cards[start : start + size] for start in range(0, len(self.cards), size)]

    @cached_property
    def scores(self) -> list[float]:
        """Scores of the labels."""
        return [card.label.score for card in self.labelled]

    @cached_property
    def monosemanticities(self) -> list[float]:
        """Monosemanticities of the neurons for which it is defined."""
        return [card.monosemanticity for card in self.cards if card.monosemanticity is not None]

    @cached_property
    def concepts(self) -> dict[str, int]:
        """Number of neurons that carry each concept, the most frequent concept first."""
        counts: dict[str, int] = {}
        for card in self.labelled:
            counts[str(card.label.concept)] = counts.get(str(card.label.concept), 0) + 1
        return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))

    def figures(self) -> dict[str, object]:
        """Return the figures of the layer for JSON."""
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
    """Gather everything that the atlas shows of one layer.

    Args:
        dissection: the dissection to show.
        layer: one of its layers.
        number: number of the layer in the atlas, from 1 on.
        top: number of top images on a card.
    """
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
    active, transform = _active_share(recording, layer), recording.transform(layer)
    return LayerCards(layer, number, cards, recording.competitors(layer), active, balance, transform)


def _active_share(recording: Recording, layer: str) -> float:
    """Share of the units that are active: 1/U in a competitive layer, else that of pooled outputs other than 0."""
    competitors = recording.competitors(layer)
    if competitors is not None:
        return 1 / competitors
    outputs = active = 0
    for shard in recording.shards(layer):
        values = shard.activations.dense()
        outputs, active = outputs + values.numel(), active + int(values.count_nonzero())
    return active / outputs
