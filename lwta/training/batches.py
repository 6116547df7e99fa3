"""Batches for training and evaluation, whose order and augmentation follow from seed, epoch and place alone.

So the order needs no state: an interrupted epoch goes on in its middle, and the number of worker processes changes
nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lwta.images import Images
from lwta.models import ModelConfig
from lwta.support.digests import digest_of_content
from lwta.support.processes import Group
from lwta.support.seeds import all_seeded, derive, generator_of

Batch = tuple[Tensor, Tensor]
Augment = Callable[[Tensor, torch.Generator], Tensor]


class Batches(ABC):
    """Base class of batches: inputs (n, C, H, W) float32, normalised, and targets (n,) int64, epoch by epoch.

    Iterating yields the batches of epoch 0; the length is the number of steps in an epoch.

    Attributes:
        images: number of images in the data.
        batch_size: images in a step of all processes together.
        seed: seed of order and augmentation.
        shuffle: whether each epoch has an order of its own, without its last, incomplete batch; if not, every epoch has
            all images once, in their order.
        group: processes, each of which takes every ``world_size``-th image.

    Raises:
        ValueError: there are fewer images than in a batch to shuffle, or the processes cannot share a batch evenly.

    Example:
        >>> class Numbers(Batches):
        ...     def epoch(self, epoch, first=0):
        ...         for places in self.places(epoch)[first:]:
        ...             yield places.float().view(-1, 1, 1, 1), places
        >>> batches = Numbers(images=4, batch_size=2, seed=0, shuffle=False, group=Group())
        >>> [targets.tolist() for inputs, targets in batches]
        [[0, 1], [2, 3]]
    """

    def __init__(self, images: int, batch_size: int, seed: int, shuffle: bool, group: Group) -> None:
        if shuffle and images < batch_size:
            raise ValueError(f"batch_size must be at most the number of images, {images}, got {batch_size}")
        if batch_size % group.world_size:
            raise ValueError(f"batch_size must be a multiple of the {group.world_size} processes, got {batch_size}")
        self.images, self.batch_size, self.seed, self.shuffle, self.group = images, batch_size, seed, shuffle, group

    def __len__(self) -> int:
        """Steps in an epoch."""
        return self.images // self.batch_size if self.shuffle else -(-self.images // self.batch_size)

    def places(self, epoch: int) -> list[Tensor]:
        """Return the places of the images that this process takes, for each step of an epoch."""
        if self.shuffle:
            order = torch.randperm(self.images, generator=generator_of(self.seed, epoch))
            order = order[: len(self) * self.batch_size]
        else:
            order = torch.arange(self.images)
        return [step[self.group.rank :: self.group.world_size] for step in order.split(self.batch_size)]

    @abstractmethod
    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from step ``first`` on."""

    def fingerprint(self) -> str | None:
        """Return a digest by which a run recognises its data; the default is None, for data that has none."""
        return None

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of epoch 0."""
        return self.epoch(0)


class TensorBatches(Batches):
    """Batches of images that are in memory as bytes, augmented a batch at a time.

    Args:
        inputs: images, (n, C, H, W) uint8.
        targets: labels, (n,) int64.
        batch_size: as in `Batches`.
        mean: mean of each channel, for values in 0…1.
        std: standard deviation of each channel.
        augment: function of a float batch with values in 0…1 and a generator, or None.
        seed: seed of order and augmentation.
        shuffle: as in `Batches`.
        group: as in `Batches`.

    Raises:
        ValueError: ``targets`` is not (n,) int64; or as in `Batches`.

    Example:
        >>> images, labels = torch.full((4, 1, 2, 2), 255, dtype=torch.uint8), torch.arange(4)
        >>> inputs, targets = next(iter(TensorBatches(images, labels, batch_size=2, mean=(0.5,), std=(0.5,))))
        >>> inputs.unique(), targets
        (tensor([1.]), tensor([0, 1]))
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        batch_size: int,
        *,
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (1.0,),
        augment: Augment | None = None,
        seed: int = 0,
        shuffle: bool = False,
        group: Group = Group(),  # noqa: B008 (immutable)
    ) -> None:
        if targets.shape != inputs.shape[:1] or targets.dtype != torch.int64:
            raise ValueError(
                f"targets must be int64 of shape ({len(inputs)},), a label for each of inputs, got {targets.dtype} of "
                f"shape {tuple(targets.shape)}"
            )
        super().__init__(len(targets), batch_size, seed, shuffle, group)
        self._inputs, self._targets, self._augment = inputs, targets, augment
        self._mean, self._std = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from step ``first`` on."""
        for step, places in list(enumerate(self.places(epoch)))[first:]:
            inputs = self._inputs[places].float() / 255
            if self._augment is not None:
                inputs = self._augment(inputs, generator_of(self.seed, epoch, step, self.group.rank))
            inputs = (inputs - self._mean) / self._std
            yield inputs.contiguous(memory_format=torch.channels_last), self._targets[places]

    def fingerprint(self) -> str:
        """Return the digest of all inputs, as they lie in memory, their normalisation, and the targets."""
        return digest_of_content([self._inputs, self._targets, self._mean, self._std])


class LoadedBatches(Batches):
    """Batches of images that are read and transformed one by one, by worker processes if there are any.

    Args:
        images: labelled images.
        transform: function of a PIL image that returns a tensor (C, H, W); it may draw from the global generators.
        batch_size: as in `Batches`.
        workers: number of processes that read images; with 0 this process does it.
        seed: seed of order and transforms.
        shuffle: as in `Batches`.
        group: as in `Batches`.

    Raises:
        ValueError: as in `Batches`.

    Example:
        >>> class Whites(Images):
        ...     classes, labels = ["white"], [0, 0]
        ...     def image(self, index):
        ...         return Image.new("RGB", (2, 2), "white")
        >>> batches = LoadedBatches(Whites(), torchvision.transforms.ToTensor(), batch_size=2)
        >>> [inputs.shape for inputs, targets in batches]
        [torch.Size([2, 3, 2, 2])]
    """

    def __init__(
        self,
        images: Images,
        transform: Callable[[Image.Image], Tensor],
        batch_size: int,
        *,
        workers: int = 0,
        seed: int = 0,
        shuffle: bool = False,
        group: Group = Group(),  # noqa: B008 (immutable)
    ) -> None:
        super().__init__(len(images), batch_size, seed, shuffle, group)
        self._images, self._dataset = images, _Transformed(images, transform, seed)
        self._workers = workers

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from step ``first`` on."""
        steps = [[(epoch, place) for place in places.tolist()] for places in self.places(epoch)[first:]]
        loader = DataLoader(
            self._dataset,
            batch_sampler=steps,
            num_workers=self._workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else the loader draws its seed from the global generator
        )
        yield from ((inputs, targets) for inputs, targets in loader)

    def fingerprint(self) -> str:
        """Return the digest of the images' names, sizes and labels; their files are not read."""
        return self._images.fingerprint()


class _Transformed(Dataset[tuple[Tensor, int]]):
    """Dataset of transformed images under (epoch, place), which with the seed decide the draws of the transform."""

    def __init__(self, images: Images, transform: Callable[[Image.Image], Tensor], seed: int) -> None:
        self._images, self._transform, self._seed = images, transform, seed

    def __getitem__(self, key: Any) -> tuple[Tensor, int]:
        epoch, place = key
        with all_seeded(derive(self._seed, epoch, place)):
            return self._transform(self._images.image(place)), self._images.labels[place]


def crop_and_flip(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Augment images (n, C, H, W): shift each by up to an eighth of its side, padded with zeros, and mirror about half.

    Returns:
        Images of the same shape.

    Example:
        >>> crop_and_flip(torch.ones(2, 3, 8, 8), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 8, 8])
    """
    n, _, height, width = inputs.shape
    pad = (height // 8, width // 8)
    padded = torch.nn.functional.pad(inputs, (pad[1], pad[1], pad[0], pad[0]))
    top = torch.randint(2 * pad[0] + 1, (n, 1), generator=generator) + torch.arange(height)
    left = torch.randint(2 * pad[1] + 1, (n, 1), generator=generator) + torch.arange(width)
    flipped = torch.rand(n, 1, generator=generator) < 0.5
    left = torch.where(flipped, left.flip(1), left)
    return padded[torch.arange(n)[:, None, None], :, top[:, :, None], left[:, None, :]].permute(0, 3, 1, 2)


def make_batches(
    images: Images,
    config: ModelConfig,
    batch_size: int,
    *,
    augmentation: str = "none",
    workers: int = 0,
    seed: int = 0,
    group: Group = Group(),  # noqa: B008 (immutable)
) -> Batches:
    """Make batches in the size and normalisation that a network of `lwta.create_model` takes.

    Args:
        images: labelled images.
        config: configuration of the network, with the size of its images and their normalisation.
        batch_size: images in a step of all processes together.
        augmentation: "crop-flip" holds all images in memory, shifts and mirrors them; "deit" and "resnet" are timm's
            transforms with the settings of these papers; "none" is for evaluation: every image once, in order.
        workers: number of processes that read images; with 0 this process does it.
        seed: seed of order and augmentation.
        group: as in `Batches`.

    Raises:
        ValueError: ``augmentation`` is unknown, an image cannot be read, or the batches are impossible as in `Batches`.
    """
    if augmentation == "crop-flip" or (augmentation == "none" and config.input_size <= 64):
        inputs, targets = in_memory(images, config.input_size)
        return TensorBatches(
            inputs,
            targets,
            batch_size,
            mean=config.mean,
            std=config.std,
            augment=crop_and_flip if augmentation == "crop-flip" else None,
            seed=seed,
            shuffle=augmentation != "none",
            group=group,
        )
    return LoadedBatches(
        images,
        transform_of(config, augmentation),
        batch_size,
        workers=workers,
        seed=seed,
        shuffle=augmentation != "none",
        group=group,
    )


def in_memory(images: Images, size: int) -> tuple[Tensor, Tensor]:
    """Read all images, resized to (n, 3, size, size) uint8, and their labels, (n,) int64.

    Raises:
        ValueError: an image cannot be read.
    """
    inputs = torch.empty(len(images), 3, size, size, dtype=torch.uint8)
    for index in range(len(images)):
        image = images.image(index)
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BICUBIC)
        inputs[index] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return inputs, torch.tensor(images.labels)


def transform_of(config: ModelConfig, augmentation: str) -> Callable[[Image.Image], Tensor]:
    """Return timm's transform for training ("deit", "resnet") or evaluation ("none").

    Raises:
        ValueError: ``augmentation`` is none of these.
    """
    from timm.data import create_transform

    settings: dict[str, dict[str, Any]] = {
        "none": {"crop_pct": config.crop_pct},
        "resnet": {"is_training": True, "color_jitter": 0.0},
        "deit": {
            "is_training": True,
            "color_jitter": 0.3,
            "auto_augment": "rand-m9-mstd0.5-inc1",
            "re_prob": 0.25,
            "re_mode": "pixel",
        },
    }
    if augmentation not in settings:
        raise ValueError(f"augmentation must be one of crop-flip, {', '.join(settings)}, got {augmentation!r}")
    return create_transform(
        input_size=config.input_size,
        mean=config.mean,
        std=config.std,
        interpolation=config.interpolation,
        **settings[augmentation],
    )
