"""Labelled images of a split, for training and evaluation: the images of a probe that have a class."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from lwta.images.base import SPLITS, FileProbe, IndexedProbe
from lwta.images.datasets import TORCHVISION, DatasetProbe, open_torchvision
from lwta.images.decoding import is_image
from lwta.images.folders import FolderProbe, files_below
from lwta.images.opening import open_archive
from lwta.images.tars import TarProbe
from lwta.support.digests import checksum

KINDS = "a folder, a zip or tar archive or NAME:FOLDER"
MOST_NUMBERS = 1_000_000
"""Largest number that a ``.cls`` file may have as label, since all numbers below it are classes too."""
_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)


class MissingSplitError(ValueError):
    """Error: the data has no image with a class in the split that was asked for."""


class Images(ABC):
    """Base class of labelled images, which are read by their place.

    Example:
        >>> from PIL import Image
        >>> class Greys(Images):
        ...     classes, labels = ["dark", "light"], [0, 1]
        ...     def image(self, index):
        ...         return Image.new("RGB", (8, 8), ("#333", "#ccc")[index])
        >>> len(Greys()), Greys().image(1).size
        (2, (8, 8))
    """

    classes: Sequence[str]
    """Names of the classes, in the order of the labels."""
    labels: Sequence[int]
    """Label of each image: the index of its class."""
    keys: Sequence[str] = ()
    """Name of each image; empty where images have none."""

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def image(self, index: int) -> Image.Image:
        """Read the image at this place, as RGB.

        Raises:
            ValueError: the image cannot be read; the message names it and the reason.
        """

    def sizes(self) -> Iterable[int]:
        """Return the size in bytes of each image's file, in order; nothing where sizes are not known."""
        return ()

    def fingerprint(self) -> str:
        """Return the digest of the classes and of every image's key, label and file size, in order.

        An image that was replaced is noticed only if its key, label or size differs.
        """
        parts = (self.classes, self.keys, self.labels, self.sizes())
        return checksum("".join("\0".join(map(str, part)) + "\0\0" for part in parts))


class ProbeImages(Images):
    """Labelled images that belong to a probe.

    Args:
        probe: the probe.
        places: place in the probe of each image.
        labels: label of each image.
        classes: names of the classes, in the order of the labels.
    """

    def __init__(
        self, probe: IndexedProbe, places: Sequence[int], labels: Sequence[int], classes: Sequence[str]
    ) -> None:
        self._probe, self._places = probe, places
        self.keys, self.labels, self.classes = [probe.keys[place] for place in places], labels, classes

    def image(self, index: int) -> Image.Image:
        """Read the image at this place, as RGB.

        Raises:
            ValueError: the image cannot be read; the message names it and the reason.
        """
        sample = self._probe[self._places[index]]
        if sample.image is None:
            raise ValueError(f"image {sample.key} of {self._probe.name} cannot be read: {sample.problem}")
        return sample.image

    def sizes(self) -> list[int]:
        """Return the size in bytes of each image's file, in order; nothing for a dataset."""
        probe = self._probe
        return [probe.size(place) for place in self._places] if isinstance(probe, FileProbe) else []


def open_images(source: str | Path, split: str) -> Images:
    """Open the labelled images of a split.

    Classes are in alphabetical order; where ``.cls`` files name them by numbers, label and number are the same. Both
    splits have the same labels: the classes of the training images come first, then those that only test images have.

    Args:
        source: a folder, zip or tar archive of ``<split>/<class>/…/<image>``, where the folder of the split is called
            train or training, or test, val or validation, and `lwta.images.base.find_places` says what may lie around
            it; a folder of tar archives ``train*.tar`` and ``test*.tar`` or ``val*.tar``, where the class of an image
            is what the ``.cls``, ``.json`` or ``.txt`` file of its sample says, as WebDataset writes them, or, if no
            image has such a file, its folder; or "cifar10:FOLDER", "cifar100:FOLDER" or "places365:FOLDER" for what
            torchvision has downloaded there. Images without a class are left out.
        split: "train" or "test".

    Raises:
        FileNotFoundError: there is no such folder or archive.
        MissingSplitError: the source has no images of this split.
        ValueError: ``split`` is unknown, the source is of no known kind or damaged, or a label is a negative number.

    Example:
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for place in ("train/cat", "train/dog", "test/dog"):
        ...     (folder / place).mkdir(parents=True)
        ...     Image.new("RGB", (8, 8)).save(folder / place / "1.png")
        >>> images = open_images(folder, "test")
        >>> images.classes, images.labels
        (['cat', 'dog'], [1])
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    name, colon, folder = str(source).partition(":")
    if colon and name in TORCHVISION:
        dataset = open_torchvision(name, folder, split)
        return ProbeImages(DatasetProbe(dataset), range(len(dataset)), dataset.targets, list(dataset.classes))
    data = _Data(Path(source))
    part = data.part(split)
    if part.probe is None or not part.names:
        raise MissingSplitError(
            f"{source} must hold images as <split>/<class>/<image>, with {' or '.join(SPLITS[split])} among the splits"
        )
    training = part if split == "train" else data.part("train")
    classes = list(dict.fromkeys([*training.classes, *part.classes]))
    number = {name: label for label, name in enumerate(classes)}
    return ProbeImages(part.probe, part.places, [number[name] for name in part.names], classes)


class _Part(NamedTuple):
    """Part of a probe: the images of a split that have a class."""

    probe: FileProbe | None = None
    """Probe of the images; None if there is no image."""
    places: Sequence[int] = ()
    """Place of each image in the probe."""
    names: Sequence[str] = ()
    """Class of each image."""
    numbered: bool = False
    """Whether label files name the classes by numbers."""

    @property
    def classes(self) -> list[str]:
        """Names of all classes, in their order."""
        if self.numbered:
            return [str(number) for number in range(max(map(int, self.names)) + 1)]
        return sorted(set(self.names))


class _Data:
    """Folder or archive with images of several splits."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir() and not path.is_file():
            raise FileNotFoundError(f"data must be {KINDS}; there is no {path}")
        self._path = path

    def part(self, split: str) -> _Part:
        """Find the images of a split."""
        named = {file for name in SPLITS[split] for file in self._path.glob(f"{name}*.tar")}
        archives = sorted(filter(Path.is_file, named))  # opening a pipe would wait for ever
        if archives:
            probe = TarProbe(archives, str(self._path))
            return _labelled(probe, range(len(probe)))
        if self._whole is None:
            return _Part()
        return _labelled(self._whole, [i for i, place in enumerate(self._whole.places) if place.split == split])

    @cached_property
    def _whole(self) -> FileProbe | None:
        """Probe of all images, if splits are folders or links to folders elsewhere; None if there is no image."""
        if self._path.is_file():
            return open_archive(self._path)
        names = [*files_below(self._path)]
        for folder in (self._path / name for split in SPLITS.values() for name in split):
            if folder.is_symlink():
                names += (f"{folder.name}/{name}" for name in files_below(folder))
        images = sorted(filter(is_image, names))
        return FolderProbe(self._path, images) if images else None


def _labelled(probe: FileProbe, places: Iterable[int]) -> _Part:
    """Select the images that have a class: by the label files of their samples or, if none has one, by their folders.

    Args:
        probe: probe of the images.
        places: places of the images to select from.

    Raises:
        ValueError: a label file holds a number that is no label.
    """
    names: list[str | None] = []
    if isinstance(probe, TarProbe):
        places = sorted(places, key=lambda place: probe.keys[place].rpartition(".")[0])
        names = [probe.own_label(place) for place in places]
    by_file = any(names)
    if not by_file:
        places = list(places)
        names = [probe.places[place].label for place in places]
    found = [(place, name) for place, name in zip(places, names, strict=True) if name]
    numbered = by_file and all(_NUMBER.fullmatch(name) for _, name in found)
    if numbered:
        found = [(place, _number(name, probe.keys[place])) for place, name in found]
    return _Part(probe, [place for place, _ in found], [name for _, name in found], numbered)


def _number(name: str, key: str) -> str:
    """Return a number in its shortest form, 7 for "+07"; raise ValueError if it is no label."""
    if not 0 <= int(name) <= MOST_NUMBERS:
        raise ValueError(f"labels that are numbers must be 0 to {MOST_NUMBERS}, got {name} for {key}")
    return str(int(name))
