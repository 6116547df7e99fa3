"""Decoding of image files and PIL images to RGB with 8 bits: one rule for training, dissecting and explaining.

- Images of 8 bits keep their values. Of animated images and files of several pages, the first one counts.
- Values of 16 bits keep their upper byte, value >> 8, as PIL does for 16-bit RGB: 32,768 becomes 128.
- Floating point values in [0, 1] are multiplied by 255 and rounded. Others, and integers of 32 bits, whose range no
  file states, make the image unreadable: values are scaled or refused, never clipped.
- Transparent pixels are blended with white, by alpha channels as well as by transparent colours of a palette.
- The orientation that a camera wrote into the file (EXIF, XMP) is applied. If it cannot be read, there is none.
- Files of more than `MAX_BYTES`, and images of more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``, are not decoded.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import stat
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from PIL import Image

T = TypeVar("T")

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Endings of the names of image files, in lower case."""
MAX_BYTES = 1 << 28
"""Size in bytes of the largest image file that is read."""

_CHUNK = 1 << 20
_ADDRESS = re.compile(r" ?<[^<>]* at 0x[0-9a-fA-F]+>")
_KINDS = {"b": "a device", "c": "a device", "d": "a folder", "p": "a pipe", "s": "a socket"}
_FORMATS_OF_16_BITS = ("PNG", "PPM")  # whose mode "I" never holds more
_ORIENTATION = 0x0112
_ORIENTED = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")  # where PIL keeps an orientation
_PLAIN_MODES = ("RGB", "L")
_PARTICULARS = frozenset({"transparency", *_ORIENTED})
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImageError(ValueError):
    """Error: an image is refused; the message is the reason, the same on every run."""


def _refusing(convert: Callable[[T], Image.Image]) -> Callable[[T], Image.Image]:
    """Decorate a function so that each exception becomes `UnreadableImageError`: on damaged files PIL raises many."""

    @wraps(convert)
    def converted(source: T) -> Image.Image:
        try:
            return convert(source)
        except UnreadableImageError:
            raise
        except Exception as error:
            raise UnreadableImageError(without_addresses(f"{type(error).__name__}: {error}")) from error

    return converted


def is_image(name: str) -> bool:
    """Return whether a file of this name should be an image."""
    return posixpath.splitext(name)[1].lower() in SUFFIXES


@_refusing
def decode(data: bytes) -> Image.Image:
    """Decode the bytes of an image file to RGB.

    Raises:
        UnreadableImageError: the bytes are no image, or one that this module's rule refuses.
    """
    with Image.open(io.BytesIO(data)) as image:
        return _rgb(image)


@_refusing
def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a PIL image of any mode to RGB; the image itself stays as it is.

    Raises:
        UnreadableImageError: its file, opened before, cannot be decoded now, or this module's rule refuses it.
    """
    return _rgb(image)


def read_file(path: str | Path) -> bytes:
    """Read a regular file; a pipe or a device could block or never end.

    Raises:
        OSError: the file cannot be opened or read.
        UnreadableImageError: it is no regular file, or holds more than `MAX_BYTES`.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImageError(f"{_KINDS.get(stat.filemode(status.st_mode)[0], 'something')}, not a regular file")
    check_size(status.st_size)
    with open(path, "rb") as file:
        return read_all(file, status.st_size)


def read_all(file: IO[bytes], size: int) -> bytes:
    """Read a file to its end.

    Args:
        file: file that is open for reading, at its start.
        size: size in bytes by the directory that lists the file, which may be wrong.

    Raises:
        UnreadableImageError: ``size``, or the real size, is more than `MAX_BYTES`.
    """
    check_size(size)
    data = file.read(size + 1)
    if len(data) <= size:
        return data
    longer = bytearray(data)
    while part := file.read(_CHUNK):
        longer += part
        check_size(len(longer))
    return bytes(longer)


def check_size(size: int) -> None:
    """Raise UnreadableImageError if an image file has more than `MAX_BYTES`."""
    if size > MAX_BYTES:
        raise UnreadableImageError(f"{size} bytes, more than the {MAX_BYTES} of any image")


def without_addresses(message: str) -> str:
    """Return an error message without the objects that it names by their address in memory."""
    return _ADDRESS.sub("", message)


def _rgb(image: Image.Image) -> Image.Image:
    """Return an opened image as upright RGB; raise UnreadableImageError if the module's rule refuses it."""
    width, height = image.size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise UnreadableImageError(f"{width}×{height} pixels, more than the {limit} that PIL takes for safe")
    image.load()  # some formats know orientation and transparency only now
    if image.mode in _PLAIN_MODES and image.info.keys().isdisjoint(_PARTICULARS):  # nearly all images
        return image.convert("RGB")
    return _upright(_on_white(_in_8_bits(image)), image)


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Return the image itself, or a grey one of 8 bits if its values have more."""
    if image.mode[0] not in "IF":
        return image
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # NaN included
            raise UnreadableImageError("floating point values that are not all in [0, 1]: their range is not known")
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _FORMATS_OF_16_BITS):
        values = np.asarray(image.convert("I"))
        grey = (values >> 8).astype(np.uint8)
        grey[values == image.info.get("transparency", -1)] = 255  # the one transparent grey of a PNG
        return Image.fromarray(grey)
    raise UnreadableImageError("integers of 32 bits: their range is not known")


def _on_white(image: Image.Image) -> Image.Image:
    """Return the image as RGB, its transparent pixels blended with white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _upright(image: Image.Image, original: Image.Image) -> Image.Image:
    """Return the image turned as the original's orientation says, without that orientation in its metadata."""
    if not any(name in original.info for name in _ORIENTED):
        return image
    try:
        turn = _UPRIGHT.get(original.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF raises almost anything
        return image
    if turn is None:
        return image
    image = image.transpose(turn)
    for name in _ORIENTED:
        image.info.pop(name, None)
    return image
