"""Explain predictions on images: which neurons were active, what they stand for and contributed to the class.

The store names the neurons that a word fits; the network must be the one that was recorded there. Probabilities are
averaged over the draws of the winners; neurons and contributions are those of the first draw.

Examples:
  lwta explain ship.jpg --model timm:resnet18 --checkpoint weights.pt --store store
  lwta explain *.jpg --model run --store store --target ship --versus truck --report atlas --probe photos.zip
  lwta explain ship.jpg --model mine.py:network --store store --class-names names.txt --heat-maps maps --json -
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import nn

from lwta.cli._networks import add_model, find_function, find_model
from lwta.cli._options import add_store, open_dissection
from lwta.cli._output import add_json, emit, say, stdout_to_stderr_if_json
from lwta.dissection import Explained, explain
from lwta.dissection.recording.preprocessing import find_transform
from lwta.dissection.store.opening import check_network
from lwta.images.decoding import UnreadableImageError, decode, read_file
from lwta.models.config import class_names_of
from lwta.support.text import CONTROL, printable, read_lines

IMAGENET = 1000  # classes
MAP_SIDE = 384  # pixels of the longer side of a heat map


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwta explain`."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="files of images")
    add_model(parser)
    add_store(parser, as_option=True)
    parser.add_argument(
        "--class-names",
        metavar="FILE",
        help="text file, a class a line, or 'imagenet' (those saved with the network; ImageNet's for 1,000 classes)",
    )
    parser.add_argument("--target", metavar="CLASS", help="name or index of the class to explain (the predicted one)")
    parser.add_argument("--versus", metavar="CLASS", help="explain the target rather than this class")
    parser.add_argument("--draws", type=int, default=6, metavar="N", help="draws of the winners (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the draws (%(default)s)")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="neurons shown of each layer (%(default)s)")
    add_json(parser)
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="write the atlas, with a page for each image")
    parser.add_argument("--pages", type=Path, metavar="FOLDER", help="write a page for each image, all in one file")
    parser.add_argument(
        "--heat-maps", type=Path, metavar="FOLDER", help="write pictures of where the neurons were active"
    )


def run(arguments: argparse.Namespace) -> int:
    """Explain, and return the exit code."""
    if arguments.top < 1:
        raise ValueError(f"--top must be at least 1, got {arguments.top}")
    images = [(str(path), _opened(path)) for path in arguments.images]
    found = find_model(arguments.model, arguments.checkpoint)
    check_network(arguments.store, found.model, arguments.name)
    given = find_function("--transform", arguments.transform) if arguments.transform else found.transform
    transform = find_transform(given, found.model)
    names = _class_names(arguments.class_names, found.model)
    dissection = open_dissection(arguments)
    explained = []
    for key, image in images:
        explanation = explain(
            found.model,
            image,
            dissection,
            transform=transform,
            class_names=names,
            target=_class(arguments.target, names),
            versus=_class(arguments.versus, names),
            draws=arguments.draws,
            seed=arguments.seed,
        )
        explained.append(Explained(key, image, explanation))
    _emit(explained, arguments)
    with stdout_to_stderr_if_json(arguments.json):
        if arguments.heat_maps is not None:
            number = _write_maps(explained, arguments.heat_maps, arguments.top)
            say(f"Heat maps: {number} in {arguments.heat_maps}")
        if arguments.pages is not None:
            _write_pages(explained, arguments.pages)
            say(f"Pages: {len(explained)} in {arguments.pages}")
        if arguments.report is not None:
            page = dissection.to_report(arguments.report, explained=explained)
            say(f"The atlas: {page}  (open it in a browser)")
    return 0


def _opened(path: Path) -> Image.Image:
    """Open an image file; raise FileNotFoundError or ValueError if that is not possible."""
    if not path.exists():
        raise FileNotFoundError(f"IMAGE must be a file, there is none {printable(str(path))}")
    try:
        return decode(read_file(path))
    except (OSError, UnreadableImageError) as error:
        raise ValueError(
            f"IMAGE must be an image, {printable(str(path))} cannot be read: {printable(str(error))}"
        ) from error


def _class_names(given: str | None, model: nn.Module) -> Sequence[str] | None:
    """Return the class names: those of the option, or those saved with the network, or ImageNet's for 1,000 classes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not UTF-8 text.
    """
    if given is None:
        own, classes = class_names_of(model), getattr(getattr(model, "lwta_config", model), "num_classes", None)
        if own is not None or classes != IMAGENET:
            return own
        given = "imagenet"
    if given == "imagenet":
        from open_clip import IMAGENET_CLASSNAMES

        return list(IMAGENET_CLASSNAMES)
    if not Path(given).is_file():
        raise FileNotFoundError(f"--class-names must be 'imagenet' or a text file, there is no file {given}")
    return read_lines(given)


def _class(text: str | None, names: Sequence[str] | None) -> int | str | None:
    """Return a class as its name or, if the text is none of the names, as its index."""
    return int(text) if text is not None and text not in (names or ()) and text.isdecimal() else text


def _emit(explained: Sequence[Explained], arguments: argparse.Namespace) -> None:
    """Print the explanations, or write them as JSON, or both."""
    listed = [{"image": image.key, **image.explanation.to_dict(rows=arguments.top)} for image in explained]
    text = "\n\n".join(f"{printable(image.key)}\n{image.explanation.table(arguments.top)}" for image in explained)
    emit(listed, text, arguments.json)


def _write_pages(explained: Sequence[Explained], folder: Path) -> None:
    """Write a page for each image, NUMBER-IMAGE.html, in which `_part` makes the parts of the name."""
    for number, (key, image, explanation) in enumerate(explained, 1):
        explanation.to_html(folder / f"{number:02d}-{_part(Path(key).stem)}.html", image=image, title=key)


def _write_maps(explained: Sequence[Explained], folder: Path, top: int) -> int:
    """Write the heat maps of the neurons with positions, NUMBER-IMAGE-LAYER-RANK-NEURON.png, and return their number.

    Parts of the names are made by `_part`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for number, (key, _, explanation) in enumerate(explained, 1):
        for layer, evidence in explanation.evidence.items():
            for rank, found in enumerate(evidence[:top], 1):
                if found.where is not None and explanation.seen is not None:
                    name = f"{number:02d}-{_part(Path(key).stem)}-{_part(layer)}-{rank:02d}-{found.neuron}.png"
                    explanation.heat_map(found, MAP_SIDE).save(folder / name)
                    written += 1
    return written


def _part(name: str) -> str:
    """Return a name as part of a file's name, different for different names.

    Slashes, backslashes, per cent signs, control characters, and bytes that are not UTF-8 are escaped: ``%2F`` for a
    slash, and so on.
    """
    return re.sub(rf"[\n/\\%]|{CONTROL.pattern}", lambda found: f"%{ord(found[0]):02X}", name)
