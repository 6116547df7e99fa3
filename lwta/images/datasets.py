"""Probes of datasets, sequences and iterables; torchvision's datasets by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from PIL import Image
from torch.utils.data import IterableDataset

from lwta.images.base import IndexedProbe, Probe, Sample, require_images
from lwta.images.decoding import UnreadableImageError, decode, to_rgb, without_addresses
from lwta.support.text import some

TORCHVISION = ("cifar10", "cifar100", "places365")
"""Names of the datasets that torchvision downloads and `open_torchvision` opens."""


class DatasetProbe(IndexedProbe):
    """Probe of a dataset as torchvision or Hugging Face have them, without a transform of its own.

    Raises:
        ValueError: the dataset is empty.
    """

    def __init__(self, dataset: Any) -> None:
        self.name = type(dataset).__name__
        self._dataset = dataset
        self._classes = _class_names(dataset)
        width = len(str(max(len(dataset) - 1, 0)))
        self.keys = [f"{i:0{width}d}" for i in range(len(dataset))]
        require_images(self.keys, self.name)

    def _read(self, index: int) -> Sample:
        key = self.keys[index]
        try:
            item = self._dataset[index]
        # what PIL raises when the dataset decodes; anything else is a mistake in the dataset
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            return Sample(key, None, problem=without_addresses(str(error)))
        image, label = _image_and_label(item, key)
        if isinstance(image, Mapping):  # Hugging Face's Image(decode=False)
            image = image.get("bytes")
        return _sample(key, image, self._class(label))

    def _class(self, label: Any) -> str | None:
        """Return the name of a class that the dataset gives by its number or its name."""
        if getattr(label, "ndim", None) == 0:  # a number of numpy or torch
            label = label.item()
        if self._classes is None or not isinstance(label, int):
            return None if label is None else str(label)
        return str(self._classes[label]) if 0 <= label < len(self._classes) else None  # −1 stands for unknown


class PairsProbe(IndexedProbe):
    """Probe of a sequence of (key, image) pairs.

    Raises:
        TypeError: an item is no pair of a key and an image.
        ValueError: there is no pair, or a key occurs twice.
    """

    def __init__(self, pairs: Sequence[Any]) -> None:
        self.name = type(pairs).__name__
        self._pairs = pairs
        self.keys = [_pair(item)[0] for item in pairs]
        require_images(self.keys, self.name)

    def _read(self, index: int) -> Sample:
        return _sample(*_pair(self._pairs[index]))


class StreamProbe(Probe, IterableDataset[Sample]):
    """Probe of an iterable of (key, image) pairs, read once and by the main process; a report has no pictures of it."""

    keys = None

    def __init__(self, pairs: Iterable[Any]) -> None:
        self.name = type(pairs).__name__
        self._pairs = pairs

    def __iter__(self) -> Iterator[Sample]:
        for item in self._pairs:
            yield _sample(*_pair(item))

    def images(self, keys: Iterable[str]) -> Iterator[tuple[str, Image.Image]]:
        """Yield nothing, as the images cannot be read again."""
        yield from ()


def open_torchvision(name: str, folder: str, split: str) -> Any:
    """Open a dataset that torchvision has downloaded.

    Args:
        name: one of `TORCHVISION`.
        folder: folder in which torchvision keeps it.
        split: "train" or "test"; the test images of Places365 are those that torchvision calls "val".

    Raises:
        FileNotFoundError: the dataset is not in that folder, or damaged.
    """
    from torchvision import datasets

    settings: dict[str, Any]
    if name == "places365":
        dataset = datasets.Places365
        settings = {"split": "train-standard" if split == "train" else "val", "small": True}
    else:
        dataset = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
        settings = {"train": split == "train"}
    try:
        return dataset(folder, **settings)
    except RuntimeError as error:
        keywords = ", ".join(f"{option}={value!r}" for option, value in {**settings, "download": True}.items())
        raise FileNotFoundError(
            f"there is no {name} of torchvision in {folder}, or it is damaged; to download it: "
            f"torchvision.datasets.{dataset.__name__}({folder!r}, {keywords})"
        ) from error


def _sample(key: str, image: Any, label: str | None = None) -> Sample:
    """Make a sample of an item of a dataset or an iterable.

    Raises:
        TypeError: ``image`` is neither a PIL image nor the bytes of an image file, as datasets may hold them.
    """
    if not isinstance(image, bytes | Image.Image):
        raise TypeError(
            f"probe must yield PIL images, but {key!r} is of type {type(image).__name__}; leave the dataset's own "
            "transform away, and pass the network's as transform="
        )
    try:
        return Sample(key, decode(image) if isinstance(image, bytes) else to_rgb(image), label)
    except UnreadableImageError as error:
        return Sample(key, None, label, str(error))


def _class_names(dataset: Any) -> Sequence[Any] | None:
    """Return the names of the classes by number: torchvision's ``classes``, Hugging Face's ``features``; else None."""
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping) and getattr(features.get("label"), "names", None):
        return features["label"].names
    classes = getattr(dataset, "classes", None)
    return classes if isinstance(classes, Sequence) else None


def _image_and_label(item: Any, key: str) -> tuple[Any, Any]:
    """Return image and label of an item; raise TypeError for a row without an image."""
    if isinstance(item, Mapping):
        if "image" not in item:
            raise TypeError(f"probe must have rows with an 'image', but row {key!r} has {some([*map(str, item)])}")
        return item["image"], item.get("label")
    if isinstance(item, tuple | list) and len(item) > 1:
        return item[0], item[1]
    return item, None


def _pair(item: Any) -> tuple[str, Any]:
    """Return key and image of an item; raise TypeError if it is no such pair."""
    if not (isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str)):
        raise TypeError(f"probe must yield pairs of a key (str) and an image, got {type(item).__name__}")
    return item[0], item[1]
