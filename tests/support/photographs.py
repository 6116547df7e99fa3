"""Photographs that are drawn, for statements that hold of any."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("Faces", "airplanes", "ketch")


def draw_photographs(path: Path, count: int = 60) -> Path:
    """Write a zip archive of JPEGs in folders by class, of many sizes, in colour and in grey."""
    random = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            size = int(random.integers(40, 90)), int(random.integers(40, 90))
            shape = (size[0] // 8, size[1] // 8, 3) if number % 7 else (size[0] // 8, size[1] // 8)
            image = Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).resize(size)
            data = io.BytesIO()
            image.save(data, "JPEG", quality=int(random.integers(60, 95)))
            archive.writestr(f"{CLASSES[number % 3]}/image_{number:04d}.jpg", data.getvalue())
    return path
