"""Pictures of the atlas as files: small, and named after their content."""

from __future__ import annotations

import io
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from lwta.dissection.atlas.files import replace_file
from lwta.dissection.probe import Probe

THUMBNAIL = 128  # pixels of the longer side; images below it stay as they are
MANY = 200


class Picture(NamedTuple):
    """An image file of the atlas."""

    file: str
    """Relative to the atlas."""
    width: int
    height: int

    @property
    def small(self) -> bool:
        """Whether its pixels are to be seen as they are."""
        return max(self.width, self.height) < THUMBNAIL // 2


def write_picture(image: Image.Image, folder: Path, longer_side: int = THUMBNAIL) -> Picture:
    """Write ``folder/images/CONTENT.png`` or, of an image that had to be made smaller, ``.jpg``."""
    image, form, suffix = image.convert("RGB"), "PNG", "png"
    if max(image.size) > longer_side:
        image.thumbnail((longer_side, longer_side), Image.Resampling.LANCZOS)
        form, suffix = "JPEG", "jpg"
    elif max(image.size) > THUMBNAIL // 2:
        form, suffix = "JPEG", "jpg"
    buffer = io.BytesIO()
    image.save(buffer, form, quality=85)
    file = f"images/{blake2b(buffer.getvalue(), digest_size=8).hexdigest()}.{suffix}"
    replace_file(folder / file, buffer.getvalue())
    return Picture(file, *image.size)


def write_thumbnails(probe: Probe, keys: Sequence[str], folder: Path, *, progress: bool = True) -> dict[str, Picture]:
    """By key, thumbnails of the images that can be read again."""
    hidden = not progress or len(keys) <= MANY
    bar = tqdm(probe.images(keys), total=len(keys), desc="thumbnails", unit=" images", disable=hidden)
    return {key: write_picture(image, folder) for key, image in bar}
