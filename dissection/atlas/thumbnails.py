"""Small copies of images, in files whose names owe nothing to the images' keys."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from lwta.dissection.probe import Probe

SIDE = 128  # pixels of the longer side; images below it stay as they are
MANY = 200  # thumbnails from which on a bar is shown


class Thumbnail(NamedTuple):
    """A file of the atlas."""

    file: str
    """Relative to the folder of the atlas."""
    small: bool
    """Whether it has too few pixels to be smoothed."""


def write_thumbnails(probe: Probe, keys: Collection[str], folder: Path, progress: bool) -> dict[str, Thumbnail]:
    """Those of the images that can be read again, by key, in ``folder/images``."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    wanted = sorted(keys)
    number = {key: i for i, key in enumerate(wanted)}
    written = {}
    images = probe.images(wanted)
    for key, image in tqdm(
        images, total=len(wanted), desc="thumbnails", unit=" images", disable=not progress or len(wanted) < MANY
    ):
        written[key] = write_thumbnail(image, folder, f"images/{number[key]:05d}")
    return written


def write_thumbnail(image: Image.Image, folder: Path, stem: str, side: int = SIDE) -> Thumbnail:
    """One file: PNG for an image that fits as it is, else a JPEG of ``side`` pixels on the longer side."""
    if max(image.size) <= side:
        image.save(folder / f"{stem}.png")
        return Thumbnail(f"{stem}.png", max(image.size) <= side // 2)
    image = image.convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    image.save(folder / f"{stem}.jpg", quality=82)
    return Thumbnail(f"{stem}.jpg", False)
