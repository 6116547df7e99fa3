"""The dissection as a folder of pages: an overview, a page for each layer and for each explained image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lwta.dissection.atlas.images import ImagePage, image_page
from lwta.dissection.atlas.layers import LayerPage, layer_page
from lwta.dissection.atlas.plots import histogram, signed_bar
from lwta.dissection.atlas.thumbnails import write_thumbnails
from lwta.dissection.explaining import Explained
from lwta.dissection.result import Dissection

STATIC = ("atlas.css", "atlas.js")


def write_atlas(
    dissection: Dissection,
    folder: str | Path,
    *,
    title: str = "What the neurons stand for",
    top: int = 6,
    explained: Sequence[Explained] = (),
    progress: bool = True,
) -> Path:
    """Write ``folder/index.html`` and what belongs to it.

    The folder opens from disk and from any web host; nothing in it comes from a network. The pages can be read without
    scripts, which add search, sorting and filters. Files are numbered: no key of an image becomes a path.

    Args:
        dissection: to show, all its layers.
        folder: made if it is not there; files of an atlas written there before are overwritten.
        title: heading of the overview.
        top: images to show for each neuron, at least 1.
        explained: images with pages of their own, as `lwta.dissection.explain` explains them.
        progress: show a bar if there are many thumbnails to write.

    Returns:
        The path of the overview.

    Raises:
        ValueError: ``top`` is below 1.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    folder = Path(folder)
    best = {layer: dissection.recording.top_images(layer, top) for layer in dissection.layers}
    wanted = {key for images in best.values() for row in images for key, _ in row}
    thumbnails = write_thumbnails(dissection.probe, wanted, folder, progress)
    layers = [
        layer_page(dissection, layer, number, images, thumbnails)
        for number, (layer, images) in enumerate(best.items(), start=1)
    ]
    images = [image_page(one, number, folder) for number, one in enumerate(explained, start=1)]
    environment = _environment(title, dissection, layers, images)
    for name in STATIC:
        text = (resources.files("lwta.dissection.atlas") / "static" / name).read_text(encoding="utf-8")
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "concepts.js").write_text(_index(layers), encoding="utf-8")
    for layer in layers:
        _write(folder / layer.file, environment, "layer.html", layer=layer)
    for image in images:
        _write(folder / image.file, environment, "image.html", image=image)
    return _write(folder / "index.html", environment, "overview.html")


def _environment(
    title: str, dissection: Dissection, layers: Sequence[LayerPage], images: Sequence[ImagePage]
) -> Environment:
    """Templates that know what all pages share."""
    environment = Environment(
        loader=PackageLoader("lwta.dissection.atlas"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        title=title,
        dissection=dissection,
        layers=layers,
        images=images,
        pages={layer.name: layer for layer in layers},
        histogram=histogram,
        signed_bar=signed_bar,
    )
    return environment


def _write(path: Path, environment: Environment, template: str, **values: Any) -> Path:
    path.write_text(environment.get_template(template).render(**values), encoding="utf-8")
    return path


def _index(layers: Sequence[LayerPage]) -> str:
    """A script that holds every neuron and its concepts, for the search on the overview.

    A script, since pages opened from disk may not fetch data.
    """
    neurons = [
        [number, card.label.neuron, card.label.concept, [concept for concept, _ in card.label.runner_ups]]
        for number, layer in enumerate(layers)
        for card in layer.cards
        if card.label.concept is not None
    ]
    pages = [[layer.name, layer.file] for layer in layers]
    data = json.dumps({"layers": pages, "neurons": neurons}, ensure_ascii=False, separators=(",", ":"))
    return f"window.atlas = {data};\n"
