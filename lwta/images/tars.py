"""Probe of tar archives: each image is read at its position in the archive, and nothing is extracted."""

from __future__ import annotations

import json
import os
import posixpath
import warnings
from array import array
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from lwta.images.base import FileProbe, digest_of_ends
from lwta.images.decoding import UnreadableImageError, check_size, is_image
from lwta.images.tar_index import Member, read_index

LABELS = (".cls", ".json", ".txt")  # by precedence
MOST_LABEL = 1 << 20  # bytes of a file with a label
NO_LABEL = (-1, 0, 0)


class TarProbe(FileProbe):
    """Probe of the images in one or more tar archives, in their order.

    The key of an image is its path in the archive; with several archives, the name of the archive comes before it.
    Files of one folder whose names are the same up to the first dot belong to one sample, as in WebDataset: the label
    of its images is in its ``.cls``, ``.json`` or ``.txt`` file. Without such a file the folders decide the class.

    Args:
        archives: the archives.
        name: name of the probe, for messages.

    Raises:
        OSError: an archive cannot be opened.
        ValueError: there is no image, or a key occurs twice.

    Warns:
        UserWarning: an archive is damaged; the images before the damage are used.
    """

    def __init__(self, archives: Sequence[Path], name: str) -> None:
        self._archives = [str(path) for path in archives]
        prefixes = [f"{shard}/" for shard in _distinct(self._archives)] if len(archives) > 1 else [""]
        self._open: tuple[int, FileIO] | None = None
        keys: list[str] = []
        names: list[str] = []
        numbers = array("q")
        for shard, path in enumerate(archives):
            for image, label in _images(path):
                keys.append(prefixes[shard] + image.name)
                names.append(image.name)
                where = NO_LABEL if label is None else (_rank(label), label.offset, label.size)
                numbers.extend((shard, image.offset, image.size, *where))
        self._members = np.array(numbers).reshape(-1, 6)
        super().__init__(name, keys, names)

    def size(self, index: int) -> int:
        """Return the size in bytes of the file at this place, by its header; −1 for a link or device."""
        return int(self._members[index, 2])

    def sizes(self) -> list[int]:
        """Return the size in bytes of each image's file, by its header; −1 for a link or device."""
        sizes: list[int] = self._members[:, 2].tolist()
        return sizes

    def label(self, index: int) -> str | None:
        """Return the label in the sample's own file, or else the class by the folders.

        Raises:
            OSError: the archive cannot be read.
        """
        return self.own_label(index) or super().label(index)

    def own_label(self, index: int) -> str | None:
        """Return the label in the sample's ``.cls``, ``.json`` or ``.txt`` file; None without a file or a label in it.

        Raises:
            OSError: the archive cannot be read.
        """
        shard, _, _, rank, offset, size = self._members[index].tolist()
        return _label(LABELS[rank], self._bytes(shard, offset, size)) if rank >= 0 else None

    def _digest(self, index: int) -> str:
        shard, offset, size = self._members[index, :3].tolist()
        return "" if size < 0 else digest_of_ends(self._descriptor(shard), offset, size)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def _data(self, index: int) -> bytes:
        shard, offset, size, *_ = self._members[index].tolist()
        if size < 0:
            raise UnreadableImageError("a link or device in the archive, not a file")
        check_size(size)
        return self._bytes(shard, offset, size)

    def _bytes(self, shard: int, offset: int, size: int) -> bytes:
        """Read a part of an archive, without the file position that processes share after a fork."""
        data = os.pread(self._descriptor(shard), size, offset)
        if len(data) < size:
            raise OSError(f"{self._archives[shard]} is shorter than it was")
        return data

    def _descriptor(self, shard: int) -> int:
        if self._open is None or self._open[0] != shard:
            self._open = shard, FileIO(self._archives[shard])
        return self._open[1].fileno()


def _images(path: Path) -> list[tuple[Member, Member | None]]:
    """Find the images in an archive, each with the file that holds its label."""
    index = read_index(path)
    if index.damage:
        found = len(index.members)
        warnings.warn(f"{path} is damaged: {index.damage}; the {found} files before that are used", stacklevel=5)
    labels: dict[str, Member] = {}
    images = []
    for member in index.members:
        if is_image(member.name):
            images.append(member)
        elif _suffix(member.name) in LABELS and 0 <= member.size <= MOST_LABEL:
            for owner in {_sample(member.name), _stem(member.name)}:
                if owner not in labels or _rank(member) < _rank(labels[owner]):
                    labels[owner] = member
    if not labels:
        return [(image, None) for image in images]
    whole = {_sample(image.name) for image in images if _is_whole(image.name)}
    samples = ((image, _sample(image.name)) for image in images)
    return [
        (image, _label_file(image, labels))
        for image, sample in samples
        # beside x.jpg and x.cls, x.mask.png is another part of the sample
        if _is_whole(image.name) or sample not in labels or sample not in whole
    ]


def _label_file(image: Member, labels: Mapping[str, Member]) -> Member | None:
    """Return the file with an image's label: that of its whole name, 0.5.cls for 0.5.png, or the sample's, 0.cls."""
    found = [labels[owner] for owner in (_stem(image.name), _sample(image.name)) if owner in labels]
    return min(found, key=_rank, default=None)


def _sample(name: str) -> str:
    """Return the name of a file's sample: its path up to the first dot of the file name."""
    folder, base = posixpath.split(name)
    return f"{folder}/{base.split('.', 1)[0]}"


def _stem(name: str) -> str:
    """Return a path without its suffix, in the form of `_sample`."""
    folder, base = posixpath.split(name)
    return f"{folder}/{posixpath.splitext(base)[0]}"


def _is_whole(name: str) -> bool:
    """Return whether there is nothing between the name of the sample and the suffix."""
    return posixpath.basename(name).count(".") == 1


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _rank(member: Member) -> int:
    return LABELS.index(_suffix(member.name))


def _label(suffix: str, data: bytes) -> str | None:
    """Return the label in the content of a label file; None if it holds none."""
    text = data.decode("utf-8", "replace").strip()
    if suffix != ".json":
        return text or None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    label = content.get("label") if isinstance(content, dict) else None
    return str(label) if isinstance(label, str | int) else None


def _distinct(paths: Sequence[str]) -> list[str]:
    """Return different names for the archives: their file names or, if two are equal, paths from a common folder."""
    names = [os.path.basename(path) for path in paths]
    if len(set(names)) == len(names):
        return names
    absolute = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath([os.path.dirname(path) for path in absolute])
    return [os.path.relpath(path, root) for path in absolute]
