"""Base classes of probing sets, and the rule for the classes of image files."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from PIL import Image
from torch.utils.data import Dataset

from lwta.images.decoding import SUFFIXES, decode, without_addresses
from lwta.support.digests import checksum
from lwta.support.text import repeated, some

SPLITS = {"train": ("train", "training"), "test": ("test", "val", "validation")}
"""Names of the folders of each split."""
END = 2048
"""Number of bytes at either end of a file that are digested."""
LOOKED_AT = 1 << 16
"""Largest number of files whose ends are read: more would take minutes where the disk has not cached them."""
_SPLIT_OF = {folder: split for split, folders in SPLITS.items() for folder in folders}
_NO_FOLDERS = ("", ".", "..")
_RESOURCE_FORKS = "__MACOSX"  # beside the images in archives that a Mac packed


class Sample(NamedTuple):
    """Sample of a probing set: an image under its key, or the reason why it cannot be read.

    Example:
        >>> Sample("broken.png", None, problem="it is empty").image is None
        True
    """

    key: str
    """Name of the image, different for every image of a probe."""
    image: Image.Image | None
    """RGB image, upright, by the rule of `lwta.images.decoding`; None if it cannot be read."""
    label: str | None = None
    """Class of the image; None where unknown."""
    problem: str = ""
    """Reason why there is no image; empty if there is one."""


class Probe(Dataset[Sample], ABC):
    """Probing set (the field's D_probe): a torch dataset of `Sample`, each image under a key of its own.

    `Probe.of` makes one.

    Example:
        >>> from PIL import Image
        >>> probe = Probe.of([("red.png", Image.new("RGB", (4, 4), "red"))])
        >>> probe.keys, [key for key, image in probe.images(["red.png"])]
        (['red.png'], ['red.png'])
    """

    name: str
    """Name of the probe for messages, such as the path of its folder."""
    keys: Sequence[str] | None
    """Keys of all images; None if they are not known before the images are read."""
    of: ClassVar[Callable[[Probe | str | Path | Iterable[Any]], Probe]]
    """Function that opens whatever can be probed: `lwta.images.open_probe`, which is defined above all kinds of probes
    and sets this attribute."""

    def sizes(self) -> Iterable[int]:
        """Return the size in bytes of each image's file, in the order of the keys; nothing where sizes are unknown."""
        return ()

    def digests(self) -> Iterable[str]:
        """Return cheap digests of the images' files, in the order of the keys; nothing where that would not be cheap.

        Each is "crc32:" or "ends:" and hexadecimal digits, or empty for a file that was not read. They distinguish
        images of the same size.
        """
        return ()

    @abstractmethod
    def images(self, keys: Iterable[str]) -> Iterator[tuple[str, Image.Image]]:
        """Yield (key, image) for the keys whose image can be read again, in any order."""


class IndexedProbe(Probe):
    """Probe whose keys are known and whose images can be read in any order, any number of times.

    Example:
        >>> from PIL import Image
        >>> probe = Probe.of([("a", Image.new("RGB", (4, 4))), ("b", Image.new("RGB", (4, 4)))])
        >>> isinstance(probe, IndexedProbe), len(probe), probe[1].key
        (True, 2, 'b')
    """

    keys: Sequence[str]

    @abstractmethod
    def _read(self, index: int) -> Sample:
        """Read the image at this place among the keys."""

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        return self._read(index)

    def images(self, keys: Iterable[str]) -> Iterator[tuple[str, Image.Image]]:
        """Yield (key, image) for the keys that the probe holds and whose image can be read.

        Warns:
            UserWarning: images could not be read; the warning comes at the end and names some of them.
        """
        index = {key: i for i, key in enumerate(self.keys)}
        lost = []
        for key in keys:
            image = self._read(index[key]).image if key in index else None
            if image is None:
                lost.append(key)
            else:
                yield key, image
        if lost:
            warnings.warn(
                f"{self.name} lacks {len(lost)} of the images, or cannot read them: {some(lost)}", stacklevel=2
            )


class FileProbe(IndexedProbe):
    """Probe of the image files in a folder or an archive.

    Args:
        name: name of the probe, for messages.
        keys: keys of the images.
        paths: paths of the images within the source, which decide their classes; None if the keys are the paths.

    Raises:
        ValueError: there is no key, or a key occurs twice.
    """

    def __init__(self, name: str, keys: Sequence[str], paths: Sequence[str] | None = None) -> None:
        self.name, self.keys = name, keys
        require_images(keys, name)
        self.places = find_places(keys if paths is None else paths)
        """Split and class of each image, by its folders."""

    def label(self, index: int) -> str | None:
        """Return the class of the image at this place; None if it has none.

        Raises:
            OSError: the class is in a file that cannot be read.
        """
        return self.places[index].label

    @abstractmethod
    def size(self, index: int) -> int:
        """Return the size in bytes of the file at this place; −1 if it is no regular file, or was removed."""

    def sizes(self) -> Iterable[int]:
        """Return the size in bytes of each image's file, in the order of the keys; −1 as in `size`."""
        return map(self.size, range(len(self)))

    def digests(self) -> Iterator[str]:
        """Yield the digest of the first and last 2 KiB of each file, or, of more than 65,536 files, of every n-th."""
        step = max(-(-len(self) // LOOKED_AT), 1)
        for index in range(len(self)):
            try:
                yield "" if index % step else self._digest(index)
            except OSError:
                yield ""

    def _digest(self, index: int) -> str:
        """Return the digest of the ends of the file at this place; empty if it is no regular file."""
        return ""

    @abstractmethod
    def _data(self, index: int) -> bytes:
        """Read the file at this place; a damaged one may raise any exception."""

    def _read(self, index: int) -> Sample:
        key, label = self.keys[index], self.places[index].label
        try:
            label = self.label(index)
            return Sample(key, decode(self._data(index)), label)
        except Exception as error:
            return Sample(key, None, label, without_addresses(str(error)) or type(error).__name__)


def digest_of_ends(descriptor: int, start: int, size: int) -> str:
    """Return the digest of the first and last `END` bytes of a part of an open file, as `Probe.digests` has it.

    Args:
        descriptor: descriptor of the file.
        start: first byte of the part.
        size: number of bytes in the part.

    Raises:
        OSError: the file cannot be read.
    """
    data = os.pread(descriptor, min(END, size), start)
    if size > END:
        last = min(END, size - END)
        data += os.pread(descriptor, last, start + size - last)
    return f"ends:{checksum(data)}"


class Place(NamedTuple):
    """Place of an image by its folders: its split and its class."""

    split: str | None
    """Split, "train" or "test"; None outside of the splits' folders, and where there are none."""
    label: str | None
    """Class of the image; None for an image in no folder."""


def find_places(paths: Sequence[str]) -> list[Place]:
    """Find split and class of every image by its path within the source.

    The class is the first folder of the path, as in torchvision's ``ImageFolder``. Two kinds of folders are passed over
    on the way there: that of a split (see `SPLITS`), if it holds folders; and one that holds every image that is in a
    folder at all, as long as there are folders in it, such as the only folder of an archive.

    Args:
        paths: with slashes, as in archives; only their folders matter.

    Example:
        >>> find_places(["photos/train/cat/siamese/1.png", "photos/val/dog/2.png", "photos/cover.png"])
        [Place(split='train', label='cat'), Place(split='test', label='dog'), Place(split=None, label=None)]
        >>> [place.label for place in find_places(["cat/1.png", "cat/2.png"])]
        ['cat', 'cat']
    """
    parents = [path.rpartition("/")[0] for path in paths]
    rest = {parent: _folders(parent) for parent in dict.fromkeys(parents)}
    splits: dict[str, str] = {}
    while True:
        first = {folders[0] for folders in rest.values() if folders}
        with_folders = {folders[0] for folders in rest.values() if len(folders) > 1}
        if not splits and with_folders & _SPLIT_OF.keys():
            splits = {parent: _SPLIT_OF[f[0]] for parent, f in rest.items() if f and f[0] in _SPLIT_OF}
            rest = {parent: folders[parent in splits :] for parent, folders in rest.items()}
        elif len(first) == 1 and with_folders:
            rest = {parent: folders[1:] for parent, folders in rest.items()}
        else:
            break
    places = {parent: Place(splits.get(parent), folders[0] if folders else None) for parent, folders in rest.items()}
    return [places[parent] for parent in parents]


def _folders(parent: str) -> list[str]:
    """Return the folders of a path, from the outermost on; none for resource forks of a Mac."""
    folders = [name for name in parent.split("/") if name not in _NO_FOLDERS]
    return [] if _RESOURCE_FORKS in folders[:1] else folders


def require_images(keys: Sequence[str], name: str) -> None:
    """Raise ValueError unless there is at least one key, and each occurs once."""
    if not keys:
        raise ValueError(f"{name} must hold at least one image, it holds none ({', '.join(sorted(SUFFIXES))})")
    if len(set(keys)) < len(keys):
        raise ValueError(f"{name} must hold every key once, it repeats {some(repeated(keys))}")
