"""The dissection as a page to look at: every neuron with its concepts and the images that excite it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from lwta.dissection.result import Dissection, Label

THUMBNAIL = 128  # pixels of the longer side; images below it stay as they are


@dataclass(frozen=True)
class Picture:
    """A top image of a neuron."""

    key: str
    activation: float
    file: str | None
    """Relative to the page; None if the image could not be read again."""


@dataclass(frozen=True)
class Card:
    """A neuron on the page."""

    label: Label
    share: float | None
    """Of all images and positions, how much it won."""
    pictures: list[Picture]


def write_report(
    dissection: Dissection, folder: str | Path, *, title: str = "What the neurons stand for", top: int = 6
) -> Path:
    """Write ``folder/index.html`` and the thumbnails in ``folder/images``.

    The page needs no network and no script. Thumbnails are numbered: no key of an image becomes a path.

    Args:
        dissection: to show, all its layers.
        folder: made if it is not there.
        title: heading of the page.
        top: images to show for each neuron.

    Returns:
        The path of the page.
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    best = {layer: dissection.recording.top_images(layer, top) for layer in dissection.layers}
    wanted = sorted({key for images in best.values() for row in images for key, _ in row})
    files = _write_thumbnails(dissection, wanted, folder)
    layers = {layer: _cards(dissection, layer, images, files) for layer, images in best.items()}
    environment = Environment(
        loader=PackageLoader("lwta.dissection"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = folder / "index.html"
    html = environment.get_template("neurons.html").render(title=title, dissection=dissection, layers=layers)
    page.write_text(html, encoding="utf-8")
    return page


def _write_thumbnails(dissection: Dissection, keys: Sequence[str], folder: Path) -> dict[str, str]:
    """Files relative to the folder, by key, of the images that can be read again."""
    number = {key: i for i, key in enumerate(keys)}
    files = {}
    for key, image in dissection.probe.images(keys):
        file = f"images/{number[key]:05d}.png"
        if max(image.size) > THUMBNAIL:
            image = image.copy()
            image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
            file = file.replace(".png", ".jpg")
        image.save(folder / file)
        files[key] = file
    return files


def _cards(
    dissection: Dissection, layer: str, images: list[list[tuple[str, float]]], files: dict[str, str]
) -> list[Card]:
    shares = dissection.recording.win_shares(layer)
    cards = []
    for label, row in zip(dissection.labels(layer, runner_ups=3), images, strict=True):
        pictures = [Picture(key, activation, files.get(key)) for key, activation in row]
        cards.append(Card(label, None if shares is None else float(shares[label.neuron]), pictures))
    return cards
