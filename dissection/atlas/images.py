"""What the page of an explained image shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lwta.dissection.atlas.thumbnails import Thumbnail, write_thumbnail
from lwta.dissection.explaining import Evidence, Explained, Explanation

SHOWN = 12  # neurons of each layer, for and against together
MAP_SIDE = 160
PICTURE_SIDE = 320


@dataclass(frozen=True)
class Row:
    """A neuron that fired."""

    evidence: Evidence
    heat_map: str | None
    """File of the map of where it fired, relative to the folder."""


@dataclass(frozen=True)
class ImagePage:
    """An explained image."""

    key: str
    file: str
    """Of its page, relative to the folder."""
    picture: Thumbnail
    explanation: Explanation
    layers: dict[str, list[Row]]
    """Of each, the neurons that contributed anything, the largest contributions first."""


def image_page(explained: Explained, number: int, folder: Path) -> ImagePage:
    """The page of the ``number``-th explained image, from 1; writes its picture and its maps."""
    explanation = explained.explanation
    picture = write_thumbnail(explained.image, folder, f"images/explained-{number}", PICTURE_SIDE)
    layers = {}
    for place, (layer, evidence) in enumerate(explanation.evidence.items()):
        rows = []
        for one in [one for one in evidence if one.contribution][:SHOWN]:
            file = None
            if one.where is not None and explanation.seen is not None:
                file = f"images/explained-{number}-{place}-{one.neuron}.jpg"
                explanation.heat_map(one, MAP_SIDE).save(folder / file, quality=85)
            rows.append(Row(one, file))
        layers[layer] = rows
    return ImagePage(
        key=explained.key,
        file=f"image-{number}.html",
        picture=picture,
        explanation=explanation,
        layers=layers,
    )
