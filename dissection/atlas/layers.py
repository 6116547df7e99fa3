"""What the pages show of each layer: its neurons as cards, and figures of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lwta.dissection.atlas.thumbnails import Thumbnail
from lwta.dissection.result import Dissection, Label
from lwta.dissection.scoring.neurons import neuron_scores

RUNNER_UPS = 4


@dataclass(frozen=True)
class Picture:
    """A top image of a neuron."""

    key: str
    activation: float
    thumbnail: Thumbnail | None
    """None if the image could not be read again."""


@dataclass(frozen=True)
class Card:
    """A neuron on the page."""

    label: Label
    share: float | None
    """Of all images and positions, how much it won; None without competition."""
    monosemanticity: float | None
    classes: Sequence[tuple[str, float]]
    """The most frequent labels of the images it won, and their shares among these."""
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class LayerPage:
    """A layer and its neurons."""

    name: str
    file: str
    """Of its page, relative to the folder."""
    competitors: int | None
    blocks: Sequence[Sequence[Card]]
    """Competitors together; without competition one block."""
    dead: int
    active: float
    """Share of the units that are not 0, over images and positions, on average."""
    scores: Tensor
    """(D,) of the labels; NaN without one."""
    monosemanticity: Tensor
    """(D,); NaN where undefined."""

    @property
    def cards(self) -> list[Card]:
        """All of them, in the order of the neurons."""
        return [card for block in self.blocks for card in block]

    @property
    def concepts(self) -> int:
        """How many different ones its neurons have for labels."""
        return len({card.label.concept for card in self.cards} - {None})


def layer_page(
    dissection: Dissection,
    layer: str,
    number: int,
    images: Sequence[Sequence[tuple[str, float]]],
    thumbnails: dict[str, Thumbnail],
) -> LayerPage:
    """The page of a layer, the ``number``-th from 1; ``images`` are its neurons' top images."""
    recording = dissection.recording
    shares, scores = recording.win_shares(layer), neuron_scores(recording, layer)
    labels = dissection.labels(layer, runner_ups=RUNNER_UPS)
    cards = [
        Card(
            label,
            None if shares is None else float(shares[label.neuron]),
            _known(float(scores.monosemanticity[label.neuron])),
            scores.classes[label.neuron],
            [Picture(key, activation, thumbnails.get(key)) for key, activation in row],
        )
        for label, row in zip(labels, images, strict=True)
    ]
    competitors = recording.competitors(layer)
    size = competitors or len(cards)
    return LayerPage(
        name=layer,
        file=f"layer-{number}.html",
        competitors=competitors,
        blocks=[cards[start : start + size] for start in range(0, len(cards), size)],
        dead=len(dissection.dead(layer)),
        active=1 / competitors if competitors else _active(dissection, layer),
        scores=scores.monosemanticity.new_tensor([label.score for label in labels]),
        monosemanticity=scores.monosemanticity,
    )


def _active(dissection: Dissection, layer: str) -> float:
    """Without competition, the share of pooled outputs that are not 0."""
    answered = total = 0
    for shard in dissection.recording.shards(layer):
        values = shard.activations.dense()
        answered, total = answered + int((values != 0).sum()), total + values.numel()
    return answered / max(total, 1)


def _known(value: float) -> float | None:
    return None if value != value else value
