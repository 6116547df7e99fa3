"""Pages of images whose classification is explained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lwta.dissection.atlas.thumbnails import Picture, write_picture
from lwta.dissection.explaining import Evidence, Explained, Explanation

SIDE = 480  # pixels of the longer side of the picture
ROWS = 20  # neurons shown of each layer
MAP_SIDE = 160


@dataclass(frozen=True)
class Row:
    """A piece of evidence."""

    evidence: Evidence
    width: float
    """Of its bar: the contribution's size, the largest of the layer being 1."""
    heat: Picture | None


@dataclass(frozen=True)
class ImagePage:
    """An explained image on its page."""

    key: str
    number: int
    """From 1 on."""
    picture: Picture
    explanation: Explanation
    layers: dict[str, list[Row]]
    fired: dict[str, int]
    """By layer, how many neurons fired."""

    @property
    def page(self) -> str:
        """File of its page."""
        return f"image-{self.number:02d}.html"


def image_page(explained: Explained, number: int, folder: Path) -> ImagePage:
    """Write the pictures and say what the page shows."""
    key, image, explanation = explained
    return ImagePage(
        key=key,
        number=number,
        picture=write_picture(image.convert("RGB"), folder, SIDE),
        explanation=explanation,
        layers={name: _rows(explanation, evidence, folder) for name, evidence in explanation.evidence.items()},
        fired={name: len(evidence) for name, evidence in explanation.evidence.items()},
    )


def _rows(explanation: Explanation, evidence: list[Evidence], folder: Path) -> list[Row]:
    """Of the neurons of a layer that contributed anything, those that contributed most."""
    shown = [one for one in evidence if one.contribution][:ROWS]
    largest = max((abs(one.contribution) for one in shown), default=1.0)
    return [Row(one, abs(one.contribution) / largest, _heat(explanation, one, folder)) for one in shown]


def _heat(explanation: Explanation, evidence: Evidence, folder: Path) -> Picture | None:
    """Where the neuron fired, over what the network saw; None where it has no positions."""
    if evidence.where is None or explanation.seen is None:
        return None
    return write_picture(explanation.heat_map(evidence, MAP_SIDE), folder, MAP_SIDE)
