"""Pages of images whose classification is explained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from lwta.dissection.atlas.thumbnails import Picture, write_picture

if TYPE_CHECKING:
    from lwta.dissection.explain import Evidence, Explanation

SIDE = 480  # pixels of the longer side of the picture
ROWS = 20  # neurons shown of each layer
MAPS = 6  # heat maps of each layer


class Explained(NamedTuple):
    """An image and why it was seen as it was."""

    key: str
    image: Image.Image
    explanation: Explanation


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
    explanation: Any
    probabilities: list[tuple[str, float, float]]
    """Class, mean and standard deviation over the draws."""
    target: str
    versus: str | None
    draws: int
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
    image = image.convert("RGB")
    probabilities = [(one.name, one.mean, one.std) for one in getattr(explanation, "probabilities", ())]
    return ImagePage(
        key=key,
        number=number,
        picture=write_picture(image, folder, SIDE),
        explanation=explanation,
        probabilities=probabilities or [(explanation.class_name, explanation.probability, 0.0)],
        target=getattr(explanation, "target_name", explanation.class_name),
        versus=getattr(explanation, "versus_name", None),
        draws=getattr(explanation, "draws", 1),
        layers={name: _rows(explained, evidence, folder) for name, evidence in explanation.evidence.items()},
        fired={name: len(evidence) for name, evidence in explanation.evidence.items()},
    )


def _rows(explained: Explained, evidence: list[Evidence], folder: Path) -> list[Row]:
    shown = evidence[:ROWS]
    largest = max((abs(one.contribution) for one in shown), default=0.0) or 1.0
    rows = []
    for place, one in enumerate(shown):
        heat = _heat(explained, one, folder) if place < MAPS else None
        rows.append(Row(one, abs(one.contribution) / largest, heat))
    return rows


def _heat(explained: Explained, evidence: Evidence, folder: Path) -> Picture | None:
    """The picture with the neuron's output laid over it; None where the neuron has no positions."""
    if getattr(evidence, "where", None) is None:
        return None
    image = explained.image.convert("RGBA")
    scale = min(SIDE / 2 / max(image.size), 1) if max(image.size) >= 64 else 8
    image = image.resize((max(int(image.width * scale), 1), max(int(image.height * scale), 1)), Image.Resampling.BOX)
    overlay = explained.explanation.heat_map(evidence, image.size)  # type: ignore[attr-defined]
    laid = Image.alpha_composite(image, overlay) if overlay.mode == "RGBA" else overlay
    return write_picture(laid, folder, SIDE)
