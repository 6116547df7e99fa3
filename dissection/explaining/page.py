"""Page that explains the classification of one image."""

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
MAP_SIDE = 160  # pixels of the longer side of a heat map


@dataclass(frozen=True)
class Row:
    """Row of the page: one neuron's evidence."""

    evidence: Evidence
    width: float
    """Length of the bar: size of the contribution, relative to the largest of the layer."""
    heat: Picture | None


@dataclass(frozen=True)
class ImagePage:
    """Content of the page of an explained image."""

    key: str
    number: int
    """Number of the page, from 1 on."""
    picture: Picture | None
    """Picture of the image; None where there is nothing to show."""
    explanation: Findings
    layers: dict[str, list[Row]]
    active: dict[str, int]
    """Number of active neurons by layer."""

    @property
    def page(self) -> str:
        """File name of the page."""
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
    """Rows of those neurons of a layer that contributed most."""
    shown = [one for one in evidence if one.contribution][:ROWS]
    largest = max((abs(one.contribution) for one in shown), default=1.0)
    return [Row(one, abs(one.contribution) / largest, _heat(explanation, one, save)) for one in shown]


def _heat(explanation: Findings, evidence: Evidence, save: Save) -> Picture | None:
    """Save a heat map of where the neuron is active; return None where it has no positions."""
    if evidence.where is None or explanation.seen is None:
        return None
    return save(explanation.heat_map(evidence, MAP_SIDE), MAP_SIDE)


def write_page(title: str, image: Image.Image | None, explanation: Findings, path: str | Path) -> None:
    """Write the page of one image; see `lwta.dissection.explaining.Explanation.to_html`."""
    style = Markup((STATIC / "atlas.css").read_text(encoding="utf-8"))
    page = image_page(title, image, explanation, 1, embedded_picture)
    html = templates().get_template("explanation.html").render(image=page, style=style, links={})
    replace_file(Path(path), html)
