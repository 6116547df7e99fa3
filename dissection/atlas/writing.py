"""Writing of the atlas: a dissection as pages to look at."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lwta.dissection.atlas.cards import LayerCards, gather
from lwta.dissection.explaining.explanation import Explained
from lwta.dissection.explaining.page import image_page
from lwta.dissection.labels.naming import Naming
from lwta.dissection.pages import plots
from lwta.dissection.pages.page_files import STATIC, replace_file, script, templates
from lwta.dissection.pages.thumbnails import write_picture, write_thumbnails
from lwta.support.exports import as_json

FIGURES = "layers.json"


def write_atlas(
    dissection: Naming,
    folder: str | Path,
    *,
    title: str = "What the neurons stand for",
    top: int = 6,
    explained: Sequence[Explained] = (),
    progress: bool = True,
) -> Path:
    """Write a folder of static pages: an overview, a page for each layer, one for each explained image.

    Beside them it writes ``layers.json``, the figures of every layer for other programs. Labels, and the figures that
    say how far to believe them, stand beside those of controls: see `lwta.dissection.scoring.trust_figures.controls`.

    The atlas opens from disk and needs no network. Without JavaScript everything but searching and sorting works. Image
    files are named after their content, pages by number: no key becomes a path. Files appear whole, the overview last,
    so a run that was interrupted is simply repeated.

    Args:
        dissection: the dissection to show, with all its layers.
        folder: folder to write into; it is made if it is not there.
        title: heading of the overview.
        top: number of images to show for each neuron, at least 1.
        explained: images with their explanations, for pages of their own.
        progress: show a progress bar if there are more than 200 thumbnails.

    Returns:
        The path of the overview, ``folder/index.html``.

    Raises:
        ValueError: ``top`` is below 1.
        OSError: a file cannot be written.

    Example:
        >>> from PIL import Image
        >>> probe = [(colour, Image.new("RGB", (4, 4), colour)) for colour in ("red", "blue")]
        >>> embeddings = Embeddings(["red", "blue"], torch.eye(2), ["a red thing", "a blue thing"], torch.eye(2))
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), LWTA(3, eval_mode="argmax"))
        >>> result = dissect(network, "2", probe, clip=embeddings, concepts=embeddings.concepts,
        ...                  transform=torchvision.transforms.ToTensor(), progress=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atlas(result, folder).name
        'index.html'
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    layers = [gather(dissection, name, place, top) for place, name in enumerate(dissection.layers, 1)]
    keys = sorted({key for layer in layers for card in layer.cards for key, _ in card.images})
    pictures = write_thumbnails(dissection.probe, keys, folder, progress=progress)
    save = partial(write_picture, folder=folder)
    images = [image_page(*one, place, save) for place, one in enumerate(explained, 1)]
    environment = templates()
    environment.globals.update(
        title=title, dissection=dissection, layers=layers, images=images, pictures=pictures, plots=plots
    )
    for path in STATIC.iterdir():
        replace_file(folder / path.name, path.read_bytes())
    replace_file(folder / "concepts.js", script("CONCEPTS", _index(layers)))
    for layer in layers:
        replace_file(folder / layer.page, environment.get_template("layer.html").render(layer=layer))
    replace_file(folder / FIGURES, as_json([layer.to_dict() for layer in layers]))
    links = {layer.name: layer.page for layer in layers}
    for image in images:
        replace_file(folder / image.page, environment.get_template("image.html").render(image=image, links=links))
    replace_file(folder / "index.html", environment.get_template("overview.html").render())
    return folder / "index.html"


def _index(layers: Sequence[LayerCards]) -> list[list[object]]:
    """Words, page, layer, neuron, r, and whether a word fits, of every neuron with words; those that it fits first."""
    rows: list[list[object]] = [
        [
            f"{card.label.closest}{card.others}",
            layer.page,
            layer.name,
            card.label.neuron,
            round(card.label.r, 2) if card.judged else None,
            card.state == "named",
        ]
        for layer in layers
        for card in layer.cards
        if card.label.words
    ]
    return sorted(rows, key=lambda row: not row[-1])
