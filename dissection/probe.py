"""The probing set: keyed images from a folder, an archive, a dataset, or anything that yields them."""

from __future__ import annotations

import io
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from lwta.dissection.words import repeated, some

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


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

        Args:
            source: a folder of images, at any depth, or a zip archive of them (keys are paths inside it, labels the
                folders' names); a dataset with ``len`` and indices whose items are images or begin with image and label
                (keys are the indices, with leading zeros); or an iterable of (key, image) pairs. Images are PIL.

        Raises:
            FileNotFoundError: there is no such folder or archive.
            ValueError: it holds no image.
            TypeError: ``source`` is none of these.
        """
        if isinstance(source, Probe):
            return source
        if isinstance(source, str | Path):
            path = Path(source)
            if path.is_dir():
                return FolderProbe(path)
            if not path.is_file():
                raise FileNotFoundError(f"probe must be a folder or a zip archive of images; there is no {path}")
            return ZipProbe(path)
        if isinstance(source, Sequence) and _is_keyed(source):
            return PairsProbe(source)
        if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
            return DatasetProbe(source)
        if isinstance(source, Iterable):
            return StreamProbe(source)
        raise TypeError(
            "probe must be a folder, a zip archive, a dataset or an iterable of (key, image), "
            f"got {type(source).__name__}"
        )

    @abstractmethod
    def images(self, keys: Iterable[str]) -> Iterator[tuple[str, Image.Image]]:
        """The images of those of the keys that can be read again, in any order."""


class _IndexedProbe(Probe):
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


class FolderProbe(_IndexedProbe):
    """The images in a folder and the folders in it; the key is the path from there, the label the folder's name."""

    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self._root = root
        files = (path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        self.keys = sorted(path.relative_to(root).as_posix() for path in files)
        _require_images(self.keys, self.name)

    def _read(self, index: int) -> Sample:
        key = self.keys[index]
        try:
            return _decoded(key, (self._root / key).read_bytes())
        except OSError as error:
            return Sample(key, None, problem=str(error))


class ZipProbe(_IndexedProbe):
    """The images in a zip archive, read in memory: its names are keys and never become paths of this machine."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._open: tuple[int, zipfile.ZipFile] | None = None
        try:
            names = self._archive().namelist()
        except zipfile.BadZipFile:
            raise ValueError(f"probe must be a folder or a zip archive of images; {path} is neither") from None
        files = (name for name in names if not name.endswith("/"))
        self.keys = sorted(name for name in files if PurePosixPath(name).suffix.lower() in SUFFIXES)
        _require_images(self.keys, self.name)

    def _archive(self) -> zipfile.ZipFile:
        """The archive, opened by this process: a file position cannot be shared with the one that forked it."""
        if self._open is None or self._open[0] != os.getpid():
            self._open = os.getpid(), zipfile.ZipFile(self._path)
        return self._open[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def _read(self, index: int) -> Sample:
        key = self.keys[index]
        try:
            return _decoded(key, self._archive().read(key))
        except Exception as error:  # whatever the damage makes zipfile and its decompressors raise
            return Sample(key, None, problem=str(error))


class DatasetProbe(_IndexedProbe):
    """A dataset as torchvision has them, without a transform of its own."""

    def __init__(self, dataset: Any) -> None:
        self.name = type(dataset).__name__
        self._dataset = dataset
        width = len(str(max(len(dataset) - 1, 0)))
        self.keys = [f"{i:0{width}d}" for i in range(len(dataset))]
        _require_images(self.keys, self.name)

    def _read(self, index: int) -> Sample:
        key = self.keys[index]
        try:
            item = self._dataset[index]
        except OSError as error:  # among them PIL's UnidentifiedImageError
            return Sample(key, None, problem=str(error))
        image, label = (item[0], item[1]) if isinstance(item, tuple | list) and len(item) > 1 else (item, None)
        if isinstance(label, int) and hasattr(self._dataset, "classes"):
            label = self._dataset.classes[label]
        return Sample(key, _rgb(image, key), None if label is None else str(label))


class PairsProbe(_IndexedProbe):
    """A sequence of (key, image) pairs."""

    def __init__(self, pairs: Sequence[Any]) -> None:
        self.name = type(pairs).__name__
        self._pairs = pairs
        self.keys = [_pair(item).key for item in pairs]
        _require_images(self.keys, self.name)

    def _read(self, index: int) -> Sample:
        return _pair(self._pairs[index])


class StreamProbe(Probe, IterableDataset[Sample]):
    """An iterable of (key, image) pairs, read once and by the main process; the report has no thumbnails of it."""

    keys = None

    def __init__(self, pairs: Iterable[Any]) -> None:
        self.name = type(pairs).__name__
        self._pairs = pairs

    def __iter__(self) -> Iterator[Sample]:
        yield from map(_pair, self._pairs)

    def images(self, keys: Iterable[str]) -> Iterator[tuple[str, Image.Image]]:
        """None: they have gone by."""
        yield from ()


def _is_keyed(source: Sequence[Any]) -> bool:
    """Whether a list or tuple holds (key, image) pairs rather than images with labels."""
    return bool(source) and isinstance(source[0], tuple | list) and isinstance(next(iter(source[0]), None), str)


def _pair(item: Any) -> Sample:
    if not (isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str)):
        raise TypeError(f"probe must yield pairs of a key (str) and an image, got {type(item).__name__}")
    key, image = item
    return Sample(key, _rgb(image, key))


def _require_images(keys: Sequence[str], name: str) -> None:
    if not keys:
        raise ValueError(f"probe must hold at least one image; {name} holds none ({', '.join(sorted(SUFFIXES))})")
    twice = repeated(keys)
    if twice:
        raise ValueError(f"probe must hold every key once; {name} repeats {some(twice)}")


def _decoded(key: str, data: bytes) -> Sample:
    label = PurePosixPath(key).parent.name or None
    try:
        with Image.open(io.BytesIO(data)) as image:
            return Sample(key, image.convert("RGB"), label)
    except Exception as error:  # PIL's decoders raise almost anything on damaged files
        return Sample(key, None, label, f"{type(error).__name__}: {error}")


def _rgb(image: Any, key: str) -> Image.Image:
    if not isinstance(image, Image.Image):
        raise TypeError(
            f"probe must yield PIL images, but {key!r} is of type {type(image).__name__}; leave the dataset's own "
            "transform away, and pass the network's as transform="
        )
    return image.convert("RGB")
