"""What every probing set is, and the rule for the classes of image files."""

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
"""Bytes at either end of a file that tell it from others of its size."""
LOOKED_AT = 1 << 16
"""Files whose ends are read at most: more take minutes where the disk has not cached them."""
_SPLIT_OF = {folder: split for split, folders in SPLITS.items() for folder in folders}
_NO_FOLDERS = ("", ".", "..")
_RESOURCE_FORKS = "__MACOSX"  # beside the images in archives that a Mac packed


class Sample(NamedTuple):
    """One image of a probe, or the reason why it is not there."""

    key: str
    image: Image.Image | None
    """RGB, upright, by the rule of `lwta.images.decoding`."""
    label: str | None = None
    problem: str = ""
    """Why there is no image."""


class Probe(Dataset[Sample], ABC):
    """A torch dataset of `Sample`, each image under a key of its own. Make one with `Probe.of`."""

    name: str
    keys: Sequence[str] | None
    """Keys of all images, where they are known before the images are read."""
    of: ClassVar[Callable[[Probe | str | Path | Iterable[Any]], Probe]]
    """Open whatever can be probed: `lwta.images.open_probe`, which stands above all kinds of probes and sets this."""

    def sizes(self) -> Iterable[int]:
        """Bytes of each image's file, in the order of the keys; none where they are not known without reading it."""
        return ()

    def digests(self) -> Iterable[str]:
        """Cheap digests of the images' files, in the order of the keys, to tell images of the same size apart.

        Each is "crc32:" or "ends:" and hexadecimal digits, or empty for an image that was not looked at; there are none
        at all where that would not be cheap.
        """
        return ()

    @abstractmethod
    def images(self, keys: Iterable[str]) -> Iterator[tuple[str, Image.Image]]:
        """Yield (key, image) for the keys whose image can be read again, in any order."""


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
        """Yield (key, image) for the keys that the probe holds and whose image can be read.

        Warns:
            UserWarning: once, at the end, of the keys that were passed over.
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
    """Image files in a folder or an archive.

    Args:
        name: what messages call it.
        keys: of the images.
        paths: of the images within the source, by which they have classes; None if the keys are these.

    Raises:
        ValueError: there is no key, or one twice.
    """

    def __init__(self, name: str, keys: Sequence[str], paths: Sequence[str] | None = None) -> None:
        self.name, self.keys = name, keys
        require_images(keys, name)
        self.places = find_places(keys if paths is None else paths)
        """Split and class of each image, by its folders."""

    def label(self, index: int) -> str | None:
        """Class of the image at this place; None if it has none.

        Raises:
            OSError: it is in a file that cannot be read.
        """
        return self.places[index].label

    @abstractmethod
    def size(self, index: int) -> int:
        """Bytes of the file at this place; −1 if it is no file, or gone."""

    def sizes(self) -> Iterable[int]:
        """Bytes of each image's file, in the order of the keys; −1 for what is no file, or gone."""
        return map(self.size, range(len(self)))

    def digests(self) -> Iterator[str]:
        """Digest of the first and last 2 KiB of each file; of more than 65,536 files, of every n-th."""
        step = max(-(-len(self) // LOOKED_AT), 1)
        for index in range(len(self)):
            try:
                yield "" if index % step else self._digest(index)
            except OSError:
                yield ""

    def _digest(self, index: int) -> str:
        """Digest of the ends of the file at this place; empty if it is no regular file."""
        return ""

    @abstractmethod
    def _data(self, index: int) -> bytes:
        """Content of the file at this place; damage may raise anything."""

    def _read(self, index: int) -> Sample:
        key, label = self.keys[index], self.places[index].label
        try:
            label = self.label(index)
            return Sample(key, decode(self._data(index)), label)
        except Exception as error:
            return Sample(key, None, label, without_addresses(str(error)) or type(error).__name__)


def digest_of_ends(descriptor: int, start: int, size: int) -> str:
    """Digest of the first and last `END` of ``size`` bytes of an open file, as `Probe.digests` has it."""
    data = os.pread(descriptor, min(END, size), start)
    if size > END:
        last = min(END, size - END)
        data += os.pread(descriptor, last, start + size - last)
    return f"ends:{checksum(data)}"


class Place(NamedTuple):
    """Where an image belongs by its folders."""

    split: str | None
    """"train" or "test"; None outside of the splits' folders, and where there are none."""
    label: str | None
    """Its class; None for an image in no folder."""


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
    folders = [name for name in parent.split("/") if name not in _NO_FOLDERS]
    return [] if _RESOURCE_FORKS in folders[:1] else folders


def require_images(keys: Sequence[str], name: str) -> None:
    """Raise ValueError unless there are keys, each once."""
    if not keys:
        raise ValueError(f"{name} must hold at least one image, it holds none ({', '.join(sorted(SUFFIXES))})")
    if len(set(keys)) < len(keys):
        raise ValueError(f"{name} must hold every key once, it repeats {some(repeated(keys))}")
