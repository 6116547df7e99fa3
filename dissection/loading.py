"""From samples to batches: each image decoded once and preprocessed for both networks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from math import ceil
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from lwta.dissection.preprocessing import Transform
from lwta.images import Probe, Sample


class Skipped(NamedTuple):
    """An image that could not be read."""

    key: str
    problem: str


class Batch(NamedTuple):
    """The readable images of a few samples."""

    keys: list[str]
    labels: list[str | None]
    inputs: Tensor | None
    """(n, …) for the network; None if no image was readable."""
    clip_inputs: Tensor | None
    """(n, 3, h, w) for CLIP; None if CLIP needs no images."""
    skipped: list[Skipped]


@dataclass(frozen=True)
class Collate:
    """Makes a `Batch` of samples, in the worker process that read them."""

    transform: Transform
    clip_transform: Transform | None

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Preprocess and stack."""
        readable = [(sample, sample.image) for sample in samples if sample.image is not None]
        return Batch(
            keys=[sample.key for sample, _ in readable],
            labels=[sample.label for sample, _ in readable],
            inputs=_stacked("transform", self.transform, [image for _, image in readable]),
            clip_inputs=_stacked("clip", self.clip_transform, [image for _, image in readable]),
            skipped=[Skipped(sample.key, sample.problem) for sample in samples if sample.image is None],
        )


def _stacked(name: str, transform: Transform | None, images: Sequence[Image.Image]) -> Tensor | None:
    if transform is None or not images:
        return None
    tensors = [transform(image) for image in images]
    shapes = {tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__ for tensor in tensors}
    if len(shapes) > 1 or not isinstance(tensors[0], Tensor):
        raise ValueError(
            f"{name} must turn every image into a tensor of one shape, got {', '.join(map(str, list(shapes)[:3]))}"
        )
    return torch.stack(tensors)


def batches(
    probe: Probe,
    transform: Transform,
    clip_transform: Transform | None,
    batch_size: int,
    workers: int,
    only: Collection[int] | None = None,
    pin: bool = False,
) -> Iterator[tuple[int, Batch]]:
    """Number and content of batches of ``batch_size`` images, the last may have fewer, in the order of the probe.

    Args:
        probe: of which to read the images. A stream is read by this process, whatever ``workers`` says.
        transform: the network's preprocessing.
        clip_transform: CLIP's; None if it needs no images.
        batch_size: n, at least 1.
        workers: processes that read and preprocess, each two batches ahead; 0 is this process, when a batch is due.
        only: the numbers of the batches wanted; None for all. A stream is passed over to get at them.
        pin: put the batches in page-locked memory, from which copies to a GPU do not wait.

    Raises:
        ValueError: a probe that knows its images has no batch of a number in ``only``.
    """
    collate = Collate(transform, clip_transform)
    if probe.keys is None:
        stream = iter(probe)
        for number in count():
            samples = list(islice(stream, batch_size))
            if not samples:
                return
            if only is None or number in only:
                yield number, collate(samples)
    else:
        every = range(len(probe.keys))
        total = ceil(len(every) / batch_size)
        numbers = range(total) if only is None else sorted(only)
        if numbers and not 0 <= numbers[0] <= numbers[-1] < total:
            raise ValueError(f"only must hold numbers of batches, 0…{total - 1}, got {numbers[0]}…{numbers[-1]}")
        loader = DataLoader(
            probe,
            batch_sampler=[list(every[number * batch_size : (number + 1) * batch_size]) for number in numbers],
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin,
            generator=torch.Generator(),  # else the loader draws its seed from the global generator
        )
        yield from zip(numbers, loader, strict=True)
