"""What every probing set is, and how bytes become images."""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torch.utils.data import Dataset

from lwta.dissection.words import repeated, some

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
END = 2048  # bytes at the ends of a file that tell it from others of its size
LOOKED_AT = 1 << 16  # images; opening more takes minutes where the disk has not cached them
MAX_BYTES = 1 << 28  # of one image file; an archive may claim anything


class Sample(NamedTuple):
    """One image of a probe, or the reason why it is not there."""

    key: str
    image: Image.Image | None
    """RGB."""
    label: str | None = None
    problem: str = ""
    """Why there is no image."""


class Probe(Dataset[Sample], ABC):
    """A torch dataset of `Sample`, each image under a key of its own. Make one with `Probe.of`."""

    name: str
    keys: Sequence[str] | None
    """Of all images, where they are known before the images are read."""

    @staticmethod
    def of(source: Probe | str | Path | Iterable[Any]) -> Probe:
        """What the ``probe`` argument of `dissect` may be.

        - A folder of images, at any depth, or a zip or tar archive of them: keys are paths inside it, labels the
          folders' names.
        - Tar shards, as WebDataset writes them: a name with ranges (``"shard-{000000..000127}.tar"``, any number of
          them, or ``{a,b}``), a list of paths, or a folder of ``.tar`` files and no images. Keys are shard/member. The
          label is what the sample's ``.cls`` file, the "label" of its ``.json``, or its ``.txt`` says, if it has one.
        - A dataset with ``len`` and indices: its items are images, begin with image and label, or are rows with "image"
          and perhaps "label", as in Hugging Face datasets. Keys are the indices, with leading zeros; labels are the
          class names, where the dataset knows them.
        - An iterable of (key, image) pairs.

        Archives are read where they are: nothing is extracted, no link is followed, and no name in them becomes a path.
        Images are PIL. An image that cannot be decoded, or that PIL refuses for its size, is no error but a `Sample`
        without image.

        Args:
            source: one of these.

        Raises:
            FileNotFoundError: there is no such folder or archive.
            ValueError: it holds no image, repeats a key, or is a compressed tar archive.
            TypeError: ``source`` is none of these.

        Warns:
            UserWarning: a tar archive is damaged or cut off; the images before the damage are used.

        Example:
            >>> from PIL import Image
            >>> probe = Probe.of([("red.png", Image.new("RGB", (4, 4), "red"))])
            >>> probe.keys, probe[0].image.size
            (['red.png'], (4, 4))
        """
        from lwta.dissection.probe.opening import open_probe

        return open_probe(source)

    def sizes(self) -> Iterable[int]:
        """Bytes of each image's file, in the order of the keys; none where they are not known without reading it."""
        return ()

    def digests(self) -> Iterable[str]:
        """What tells images of the same size apart without reading them whole, in the order of the keys: "crc32:" or
        "ends:" and a digest, or nothing for an image that was not looked at; none at all where that is not cheap.
        """
        return ()

    @abstractmethod
    def images(self, keys: Iterable[str]) -> Iterator[tuple[str, Image.Image]]:
        """The images of those of the keys that can be read again, in any order."""


class IndexedProbe(Probe):
    """A probe whose keys are known and whose images can be read in any order, any number of times."""

    keys: Sequence[str]

    @abstractmethod
    def _read(self, index: int) -> Sample:
        """The image of the key at this place, or the reason why there is none."""

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        return self._read(index)

    def images(self, keys: Iterable[str]) -> Iterator[tuple[str, Image.Image]]:
        """The images of those of the keys that are readable."""
        index = {key: i for i, key in enumerate(self.keys)}
        for key in keys:
            image = self._read(index[key]).image
            if image is not None:
                yield key, image


def digest_of_ends(descriptor: int, start: int, size: int) -> str:
    """Digest of the first and last 2 KiB of ``size`` bytes of an open file, for `Probe.digests`."""
    data = os.pread(descriptor, min(END, size), start)
    if size > END:
        last = min(END, size - END)
        data += os.pread(descriptor, last, start + size - last)
    return f"ends:{hashlib.blake2b(data, digest_size=16).hexdigest()}"


def step_between_looked_at(count: int) -> int:
    """Of so many images, `Probe.digests` opens every n-th, so that it opens 65,536 at most."""
    return max(-(-count // LOOKED_AT), 1)


def is_image(name: str) -> bool:
    """Whether a file of this name should be an image."""
    return posixpath.splitext(name)[1].lower() in SUFFIXES


def folder_label(name: str) -> str | None:
    """Name of the folder that a file of this name lies in."""
    return posixpath.basename(posixpath.dirname(name)) or None


def require_images(keys: Sequence[str], name: str) -> None:
    """Raise ValueError unless there are keys, each once."""
    if not keys:
        raise ValueError(f"probe must hold at least one image; {name} holds none ({', '.join(sorted(SUFFIXES))})")
    if len(set(keys)) < len(keys):
        raise ValueError(f"probe must hold every key once; {name} repeats {some(repeated(keys))}")


def too_large(size: int) -> str:
    """Problem of a file of so many bytes; empty if it is none."""
    return f"{size} bytes, more than the {MAX_BYTES} of any image" if size > MAX_BYTES else ""


def decoded(key: str, data: bytes, label: str | None) -> Sample:
    """Sample of an image file's bytes."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return Sample(key, image.convert("RGB"), label)
    except Exception as error:  # PIL's decoders raise almost anything on damaged files
        return Sample(key, None, label, f"{type(error).__name__}: {error}")


def converted(key: str, image: Any, label: str | None = None) -> Sample:
    """Sample of what a dataset or an iterable holds for an image.

    Raises:
        TypeError: that is no PIL image.
    """
    if not isinstance(image, Image.Image):
        raise TypeError(
            f"probe must yield PIL images, but {key!r} is of type {type(image).__name__}; leave the dataset's own "
            "transform away, and pass the network's as transform="
        )
    try:
        return Sample(key, image.convert("RGB"), label)
    except Exception as error:  # files are decoded here, when they were opened but not yet read
        return Sample(key, None, label, f"{type(error).__name__}: {error}")
