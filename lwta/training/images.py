"""Labelled images of a split, from a folder, a zip archive, a tar archive, or torchvision."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch
from PIL import Image, UnidentifiedImageError

from lwta.digest import digest

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
SPLITS = {"train": ("train", "training"), "test": ("test", "val", "validation")}
TORCHVISION = ("cifar10", "cifar100", "places365")


class Images(ABC):
    """Images with labels, read by their place."""

    classes: Sequence[str]
    """Names, in the order of the labels."""
    labels: Sequence[int]
    """Of all images."""

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def image(self, index: int) -> Image.Image:
        """The image at this place, RGB."""

    def fingerprint(self) -> str:
        """Digest of the classes, the labels and what is known of the files without reading them."""
        return digest([list(self.classes), torch.tensor(self.labels), self._files()])

    def _files(self) -> list[tuple[str, int]]:
        """Name of each image with its size, or with its checksum where there is one."""
        return []


def open_images(source: str | Path, split: str) -> Images:
    """The images of a split.

    Args:
        source: a folder or zip archive of ``<split>/<class>/<image>``, where the split is called train, or test, val
            or validation; a tar archive per split in a folder, ``train*.tar``, ``test*.tar`` or ``val*.tar``, with the
            members ``<key>.<jpg or png>`` and ``<key>.cls`` of WebDataset; or "cifar10:FOLDER", "cifar100:FOLDER" or
            "places365:FOLDER" for what torchvision has downloaded there.
        split: "train" or "test".

    Raises:
        FileNotFoundError: there is no such folder or archive.
        ValueError: it has no images of this split, or is of no known kind.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    kind, colon, folder = str(source).partition(":")
    if colon and kind in TORCHVISION:
        return _torchvision(kind, folder, split)
    path = Path(source)
    if path.is_dir():
        tars = sorted(file for name in SPLITS[split] for file in path.glob(f"{name}*.tar"))
        return TarImages(tars) if tars else FolderImages(path, split)
    if not path.exists():
        raise FileNotFoundError(f"data must be a folder, a zip archive or NAME:FOLDER; there is no {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"data must be a folder, a zip archive or NAME:FOLDER; {path} is none of them")
    return ZipImages(path, split)


class FolderImages(Images):
    """Files ``<split>/<class>/…/<image>`` in a folder."""

    def __init__(self, root: Path, split: str) -> None:
        self._root = root
        files = (path for name in SPLITS[split] for path in (root / name).rglob("*") if path.is_file())
        self.paths, self.labels, self.classes = _sorted_by_class(
            [path.relative_to(root).as_posix() for path in files], split, str(root)
        )

    def image(self, index: int) -> Image.Image:
        """The image at this place, RGB."""
        return _rgb((self._root / self.paths[index]).read_bytes(), self.paths[index])

    def _files(self) -> list[tuple[str, int]]:
        return [(path, (self._root / path).stat().st_size) for path in self.paths]


class ZipImages(Images):
    """Members ``<split>/<class>/…/<image>`` of a zip archive, read without unpacking it."""

    def __init__(self, path: Path, split: str) -> None:
        self._path = path
        self._open: tuple[int, zipfile.ZipFile] | None = None
        names = [name for name in self._archive().namelist() if name.split("/")[0] in SPLITS[split]]
        self.paths, self.labels, self.classes = _sorted_by_class(names, split, str(path))

    def _archive(self) -> zipfile.ZipFile:
        """The archive, opened by this process: a file position cannot be shared with the one that forked it."""
        if self._open is None or self._open[0] != os.getpid():
            self._open = os.getpid(), zipfile.ZipFile(self._path)
        return self._open[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def image(self, index: int) -> Image.Image:
        """The image at this place, RGB."""
        return _rgb(self._archive().read(self.paths[index]), self.paths[index])

    def _files(self) -> list[tuple[str, int]]:
        return [(path, self._archive().getinfo(path).CRC) for path in self.paths]


class _Member(NamedTuple):
    archive: Path
    name: str
    offset: int
    size: int


class TarImages(Images):
    """Pairs of members ``<key>.<suffix>`` and ``<key>.cls`` of tar archives; only their index is held in memory."""

    def __init__(self, archives: Sequence[Path]) -> None:
        self._members: list[_Member] = []
        self.labels = []
        for archive in archives:
            self._index(archive)
        if not self.labels:
            raise ValueError(f"{', '.join(map(str, archives))} must hold pairs of an image and a .cls file, found none")
        self.classes = [str(label) for label in range(max(self.labels) + 1)]

    def _index(self, archive: Path) -> None:
        images, labels = {}, {}
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                key, _, suffix = member.name.rpartition(".")
                if f".{suffix.lower()}" in SUFFIXES:
                    images[key] = _Member(archive, member.name, member.offset_data, member.size)
                elif suffix == "cls" and (file := tar.extractfile(member)) is not None:
                    labels[key] = int(file.read())
        keys = sorted(images.keys() & labels.keys())
        self._members += [images[key] for key in keys]
        self.labels = [*self.labels, *(labels[key] for key in keys)]

    def image(self, index: int) -> Image.Image:
        """The image at this place, RGB."""
        member = self._members[index]
        with member.archive.open("rb") as file:
            file.seek(member.offset)
            return _rgb(file.read(member.size), member.name)

    def _files(self) -> list[tuple[str, int]]:
        return [(member.name, member.size) for member in self._members]


class DatasetImages(Images):
    """A dataset as torchvision has them, without a transform of its own."""

    def __init__(self, dataset: Any, labels: Sequence[int]) -> None:
        self._dataset, self.labels, self.classes = dataset, labels, list(dataset.classes)

    def image(self, index: int) -> Image.Image:
        """The image at this place, RGB."""
        return self._dataset[index][0].convert("RGB")


def _torchvision(kind: str, folder: str, split: str) -> Images:
    from torchvision import datasets

    if kind == "places365":
        dataset, settings = (
            datasets.Places365,
            {"split": "train-standard" if split == "train" else "val", "small": True},
        )
    else:
        dataset = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[kind]
        settings = {"train": split == "train"}
    try:
        images = dataset(folder, **settings)
    except RuntimeError as error:
        keywords = ", ".join(f"{name}={value!r}" for name, value in {**settings, "download": True}.items())
        raise FileNotFoundError(
            f"there is no {kind} of torchvision in {folder}, or it is damaged; to download it: "
            f"torchvision.datasets.{dataset.__name__}({folder!r}, {keywords})"
        ) from error
    return DatasetImages(images, images.targets)


def _sorted_by_class(names: list[str], split: str, where: str) -> tuple[list[str], list[int], list[str]]:
    """Paths ``<split>/<class>/…`` of images in order, their labels, and the classes in alphabetical order."""
    paths = sorted(
        name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES and len(name.split("/")) > 2
    )
    if not paths:
        raise ValueError(f"{where} must hold images as <split>/<class>/<image>, with {split} among the splits")
    classes = sorted({path.split("/")[1] for path in paths})
    number = {name: label for label, name in enumerate(classes)}
    return paths, [number[path.split("/")[1]] for path in paths], classes


def _rgb(data: bytes, name: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except UnidentifiedImageError:  # whose text is an address in memory
        reason = "it is of no known kind" if data else "it is empty"
        raise ValueError(f"image {name} cannot be read: {reason}") from None
    except OSError as error:
        raise ValueError(f"image {name} cannot be read: {error}") from error
