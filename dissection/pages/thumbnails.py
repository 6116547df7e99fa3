"""Pictures of the atlas: small files that are named after their content."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from lwta.dissection.pages.page_files import replace_file
from lwta.images import Probe
from lwta.images.decoding import to_rgb

THUMBNAIL = 128  # pixels of the longer side; images below it stay as they are
MANY = 200  # thumbnails beyond which a progress bar is shown


class Picture(NamedTuple):
    """Picture on a page: an image file of the atlas, or one within the page itself."""

    file: str
    """Path of the file relative to the atlas, or a data URL."""
    width: int
    height: int

    @property
    def small(self) -> bool:
        """Whether the picture is so small that its pixels are shown unsmoothed."""
        return max(self.width, self.height) < THUMBNAIL // 2


Save = Callable[[Image.Image, int], Picture]
"""Callable that saves an image, with at most so many pixels on its longer side, where a page finds it."""


def encoded(image: Image.Image, longer_side: int) -> tuple[bytes, str, tuple[int, int]]:
    """Encode an image, shrunk if need be; return content, format ("png" for small images, else "jpeg") and size."""
    image, form = to_rgb(image), "png"
    if max(image.size) > longer_side:
        image.thumbnail((longer_side, longer_side), Image.Resampling.LANCZOS)
        form = "jpeg"
    elif max(image.size) > THUMBNAIL // 2:
        form = "jpeg"
    buffer = io.BytesIO()
    image.save(buffer, form, quality=85)
    return buffer.getvalue(), form, image.size


def write_picture(image: Image.Image, longer_side: int, folder: Path) -> Picture:
    """Write an image to ``folder/images/DIGEST.png`` or ``.jpg``, where DIGEST is that of its content."""
    data, form, size = encoded(image, longer_side)
    file = f"images/{blake2b(data, digest_size=8).hexdigest()}.{form.replace('jpeg', 'jpg')}"
    replace_file(folder / file, data)
    return Picture(file, *size)


def embedded_picture(image: Image.Image, longer_side: int) -> Picture:
    """Return the image as a picture that is part of the page itself: a data URL."""
    data, form, size = encoded(image, longer_side)
    return Picture(f"data:image/{form};base64,{base64.b64encode(data).decode()}", *size)


def write_thumbnails(probe: Probe, keys: Sequence[str], folder: Path, *, progress: bool = True) -> dict[str, Picture]:
    """Write thumbnails of those of the images that can be read again, and return them by key."""
    hidden = not progress or len(keys) <= MANY
    bar = tqdm(probe.images(keys), total=len(keys), desc="thumbnails", unit=" images", disable=hidden)
    return {key: write_picture(image, THUMBNAIL, folder) for key, image in bar}
