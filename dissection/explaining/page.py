"""Page of an image whose classification is explained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from lwta.dissection.explaining.findings import Evidence, Findings
from lwta.dissection.pages.page_files import STATIC, replace_file, templates
from lwta.dissection.pages.thumbnails import Picture, Save, embedded_picture

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
    picture: Picture | None
    """None where there is nothing to show: the network was given no picture."""
    explanation: Findings
    layers: dict[str, list[Row]]
    active: dict[str, int]
    """By layer, how many neurons were active."""

    @property
    def page(self) -> str:
        """File of its page."""
        return f"image-{self.number:02d}.html"


def image_page(key: str, image: Image.Image | None, explanation: Findings, number: int, save: Save) -> ImagePage:
    """Save the pictures of an explained image and return what its page shows."""
    return ImagePage(
        key=key,
        number=number,
        picture=None if image is None else save(image.convert("RGB"), SIDE),
        explanation=explanation,
        layers={name: _rows(explanation, evidence, save) for name, evidence in explanation.evidence.items()},
        active={name: len(evidence) for name, evidence in explanation.evidence.items()},
    )


def _rows(explanation: Findings, evidence: list[Evidence], save: Save) -> list[Row]:
    """Of the neurons of a layer that contributed anything, those that contributed most."""
    shown = [one for one in evidence if one.contribution][:ROWS]
    largest = max((abs(one.contribution) for one in shown), default=1.0)
    return [Row(one, abs(one.contribution) / largest, _heat(explanation, one, save)) for one in shown]


def _heat(explanation: Findings, evidence: Evidence, save: Save) -> Picture | None:
    """Save where the neuron is active, over what the network saw; None where it has no positions."""
    if evidence.where is None or explanation.seen is None:
        return None
    return save(explanation.heat_map(evidence, MAP_SIDE), MAP_SIDE)


def write_page(title: str, image: Image.Image | None, explanation: Findings, path: str | Path) -> None:
    """See `lwta.dissection.explaining.Explanation.to_html`."""
    style = Markup((STATIC / "atlas.css").read_text(encoding="utf-8"))
    page = image_page(title, image, explanation, 1, embedded_picture)
    html = templates().get_template("explanation.html").render(image=page, style=style, links={})
    replace_file(Path(path), html)
