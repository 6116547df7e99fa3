"""Cards: what the atlas shows of a layer and of each of its neurons."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import Any

from lwta.dissection.labels.label import WORDS_SHOWN, Label
from lwta.dissection.labels.naming import Naming
from lwta.dissection.recording.layers import LayerTransform
from lwta.dissection.recording.recording import Recording
from lwta.dissection.scoring.layer_figures import block_entropies
from lwta.dissection.scoring.neuron_figures import neuron_scores
from lwta.dissection.scoring.trust_figures import TrustFigures, controls, trust_figures, verdict
from lwta.dissection.similarity import AUTO, SIMILARITIES
from lwta.dissection.trust.cross_validation import LEAST_IMAGES
from lwta.support.exports import without_nan

RUNNER_UPS = 4
ROTATION = "random rotation"
NOT_APART = "not told apart"  # a reason that the rank says by itself


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
    dead: bool = False
    """Whether the neuron is dead, by the recording: it is not dead for lack of a word."""

    @property
    def state(self) -> str:
        """State by which pages filter neurons: "named", "unfit" if no word fits, or "dead"."""
        return "dead" if self.dead else "unfit" if self.label.concept is None else "named"

    @property
    def others(self) -> str:
        """Text behind the first word: the further words of most weight, as a label shows them."""
        return "".join(f" + {word}" for word, _ in self.label.words[1:WORDS_SHOWN])

    @property
    def judged(self) -> bool:
        """Whether the words were checked on images left out."""
        return self.label.rank is not None

    @property
    def short_reason(self) -> str | None:
        """Reason for which no word fits, without the figures behind it."""
        return None if self.label.reason is None else self.label.reason.partition(":")[0]

    @property
    def told(self) -> str:
        """Text beside r: that the neuron is told apart, its rank if not, or another reason for which no word fits."""
        if self.short_reason not in (None, NOT_APART):
            return str(self.short_reason)
        return "told apart" if self.label.told_apart else f"rank {self.label.rank}"

    @property
    def searched(self) -> str:
        """Text that a search looks through: label or closest words and runners-up in lower case, one a line."""
        listed = [self.label.concept, *(concept for concept, _ in (*self.label.words, *self.label.runner_ups))]
        return "\n".join(dict.fromkeys(concept for concept in listed if concept is not None)).lower()


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
    figures: TrustFigures
    """Figures of the labels on images left out, to compare with those of the controls."""
    controls: list[TrustFigures]
    """Figures of labels where there is nothing for them to say; empty where labels cannot be judged."""
    similarity: str
    """Name of the labeler."""
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

    @cached_property
    def dead(self) -> int:
        """Number of dead neurons; one that no word fits is not dead."""
        return sum(card.dead for card in self.cards)

    @cached_property
    def judged(self) -> list[Card]:
        """Cards of the neurons whose words were checked on images left out."""
        return [card for card in self.cards if card.judged]

    @property
    def told_apart(self) -> int:
        """Number of neurons that their words predict better than any other neuron of the layer."""
        return sum(card.label.told_apart for card in self.judged)

    @property
    def verdict(self) -> str | None:
        """Sentence where the labels are not specific to their neurons; None where they are, or that is not known."""
        return verdict(self.figures, self.name)

    @property
    def beats_rotation(self) -> bool:
        """Whether more of the neurons are told apart than of a random rotation of the layer."""
        rotation = [control.told_apart for control in self.controls if control.name == ROTATION]
        return all(not self.figures.told_apart <= value for value in rotation)

    @cached_property
    def blocks(self) -> list[list[Card]]:
        """Cards block by block; without competition all are one block."""
        size = self.competitors or len(self.cards)
        return [self.cards[start : start + size] for start in range(0, len(self.cards), size)]

    @cached_property
    def rs(self) -> tuple[list[float], list[float]]:
        """Correlations r of the neurons with a label, and of those that no word fits."""
        named = [card.label.r for card in self.judged if card.label.concept is not None]
        return named, [card.label.r for card in self.judged if card.label.concept is None]

    @cached_property
    def r_bounds(self) -> tuple[float, float]:
        """Ends of the axis of r: 0 and 1, the first lower where some are below it."""
        return min(0.0, *(card.label.r for card in self.judged), 0.0), 1.0

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

    def to_dict(self) -> dict[str, Any]:
        """Return the figures of the layer for JSON, None for NaN."""
        mean = sum(self.monosemanticities) / len(self.monosemanticities) if self.monosemanticities else None
        return {
            "layer": self.name,
            "page": self.page,
            "neurons": len(self.cards),
            "competitors": self.competitors,
            "active_share": self.active,
            "similarity": self.similarity,
            "labelled": len(self.labelled) / len(self.cards),
            "dead": self.dead,
            "no_word_fits": sum(card.state == "unfit" for card in self.cards),
            "distinct_concepts": len(self.concepts),
            "monosemanticity": mean,
            "trust": without_nan(self.figures._asdict()),
            "controls": [without_nan(control._asdict()) for control in self.controls],
            "verdict": self.verdict,
        }


def gather(dissection: Naming, layer: str, number: int, top: int) -> LayerCards:
    """Gather everything that the atlas shows of one layer.

    Args:
        dissection: the dissection to show.
        layer: one of its layers.
        number: number of the layer in the atlas, from 1 on.
        top: number of top images on a card.
    """
    recording, chosen = dissection.recording, dissection.chosen(layer)
    shares, known = recording.win_shares(layer), neuron_scores(recording, layer)
    images, active = recording.top_images(layer, top), recording.active(layer)
    cards = []
    for label in dissection.labels(layer, runner_ups=RUNNER_UPS):
        n = label.neuron
        monosemanticity = float(known.monosemanticity[n])
        cards.append(
            Card(
                label,
                share=None if shares is None else float(shares[n]),
                monosemanticity=None if isnan(monosemanticity) else monosemanticity,
                classes=known.classes[n],
                images=images[n],
                dead=not active[n],
            )
        )
    return LayerCards(
        layer,
        number,
        cards,
        competitors=recording.competitors(layer),
        active=_active_share(recording, layer),
        balance=block_entropies(recording, layer).tolist(),
        figures=trust_figures("the layer", chosen.trust, active),
        controls=_controls(dissection, layer),
        similarity=chosen.similarity,
        transform=recording.transform(layer),
    )


def _controls(dissection: Naming, layer: str) -> list[TrustFigures]:
    """Controls of a layer; none with too few images, or where the labeler is the user's own and known by name alone."""
    known = dissection.similarity in (AUTO, *SIMILARITIES)
    enough = dissection.chosen(layer).trust.images >= LEAST_IMAGES
    return controls(dissection, layer, dissection.similarity, {}) if known and enough else []


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
