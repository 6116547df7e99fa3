"""A probe of tar archives: read where they are, by the place of each image, and nothing extracted."""

from __future__ import annotations

import json
import os
import posixpath
import warnings
from array import array
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from lwta.dissection.probe.base import (
    IndexedProbe,
    Sample,
    decoded,
    digest_of_ends,
    folder_label,
    is_image,
    require_images,
    step_between_looked_at,
    too_large,
)
from lwta.dissection.probe.tar import Member, read_index

LABELS = (".cls", ".json", ".txt")  # by precedence
MOST_LABEL = 1 << 20  # bytes of a file with a label
NO_LABEL = (-1, 0, 0)


class TarProbe(IndexedProbe):
    """The images in one or more tar archives, in their order; the key is the name in the archive, behind the name of
    the archive where there are several.

    Files of one folder whose names are the same up to the first dot belong to one sample, as in WebDataset: the label
    of its images is in its ``.cls``, ``.json`` or ``.txt`` file. Without one it is the name of the folder.
    """

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self.name = name
        self._paths = [str(path) for path in paths]
        self._prefixes = [f"{shard}/" for shard in _distinct(self._paths)] if len(paths) > 1 else [""]
        self._open: tuple[int, FileIO] | None = None
        keys: list[str] = []
        numbers = array("q")
        for shard, path in enumerate(paths):
            prefix = self._prefixes[shard]
            for image, label in _images(path):
                keys.append(prefix + image.name)
                where = NO_LABEL if label is None else (_rank(label), label.offset, label.size)
                numbers.extend((shard, image.offset, image.size, *where))
        self.keys = keys
        self._places = np.array(numbers).reshape(-1, 6)
        require_images(self.keys, self.name)

    def sizes(self) -> list[int]:
        """As the archives' headers tell."""
        sizes: list[int] = self._places[:, 2].tolist()
        return sizes

    def digests(self) -> Iterator[str]:
        """Of the ends of the images in the archives."""
        step = step_between_looked_at(len(self.keys))
        for i, (shard, offset, size) in enumerate(self._places[:, :3].tolist()):
            try:
                yield "" if i % step or size < 0 else digest_of_ends(self._descriptor(shard), offset, size)
            except OSError:
                yield ""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def _read(self, index: int) -> Sample:
        key = self.keys[index]
        shard, offset, size, label_rank, label_offset, label_size = self._places[index].tolist()
        label = folder_label(key[len(self._prefixes[shard]) :])
        problem = too_large(size) if size >= 0 else "a link or device in the archive, not a file"
        if problem:
            return Sample(key, None, label, problem)
        try:
            if label_rank >= 0:
                label = _label(LABELS[label_rank], self._bytes(shard, label_offset, label_size)) or label
            data = self._bytes(shard, offset, size)
        except OSError as error:
            return Sample(key, None, label, str(error))
        return decoded(key, data, label)

    def _bytes(self, shard: int, offset: int, size: int) -> bytes:
        """Read at a place, without the file position that processes share after a fork."""
        data = os.pread(self._descriptor(shard), size, offset)
        if len(data) < size:
            raise OSError(f"{self._paths[shard]} is shorter than it was")
        return data

    def _descriptor(self, shard: int) -> int:
        if self._open is None or self._open[0] != shard:
            self._open = shard, FileIO(self._paths[shard])
        return self._open[1].fileno()


def _images(path: Path) -> list[tuple[Member, Member | None]]:
    """The images in an archive, each with the file that holds its label."""
    index = read_index(path)
    if index.damage:
        found = len(index.members)
        warnings.warn(f"{path} is damaged: {index.damage}; the {found} files before that are used", stacklevel=6)
    labels: dict[str, Member] = {}
    images = []
    for member in index.members:
        if is_image(member.name):
            images.append(member)
        elif _suffix(member.name) in LABELS and 0 <= member.size <= MOST_LABEL:
            sample = _sample(member.name)
            if sample not in labels or _rank(member) < _rank(labels[sample]):
                labels[sample] = member
    if not labels:
        return [(image, None) for image in images]
    whole = {_sample(image.name) for image in images if _is_whole(image.name)}
    samples = ((image, _sample(image.name)) for image in images)
    return [
        (image, labels.get(sample))
        for image, sample in samples
        # beside x.jpg and x.cls, x.mask.png is another part of the sample
        if _is_whole(image.name) or sample not in labels or sample not in whole
    ]


def _sample(name: str) -> str:
    """What the names of the files of one sample have in common."""
    folder, base = posixpath.split(name)
    return f"{folder}/{base.split('.', 1)[0]}"


def _is_whole(name: str) -> bool:
    """Whether there is nothing between the name of the sample and the suffix."""
    return posixpath.basename(name).count(".") == 1


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _rank(member: Member) -> int:
    return LABELS.index(_suffix(member.name))


def _label(suffix: str, data: bytes) -> str | None:
    """What a file with a label says; None if nothing."""
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
    """Names of the archives: of the files or, where two have one name, from the folder that all are in."""
    names = [os.path.basename(path) for path in paths]
    if len(set(names)) == len(names):
        return names
    absolute = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath([os.path.dirname(path) for path in absolute])
    return [os.path.relpath(path, root) for path in absolute]
