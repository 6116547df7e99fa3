"""Batches of the probing set: each image is decoded once and preprocessed for both networks."""

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

from lwta.dissection.recording.preprocessing import Transform
from lwta.images import Probe, Sample


class Skipped(NamedTuple):
    """Image that could not be read, and the reason."""

    key: str
    problem: str


class Batch(NamedTuple):
    """Batch of the probing set: the readable images among a few samples."""

    keys: list[str]
    """Keys of the n readable images."""
    labels: list[str | None]
    """Classes of these images; None where unknown."""
    inputs: Tensor | None
    """Inputs of the network, (n, …); None if no image was readable."""
    clip_inputs: Tensor | None
    """Inputs of CLIP, (n, 3, h, w); None if no image was readable, or CLIP needs no images."""
    skipped: list[Skipped]
    """Images that could not be read."""


@dataclass(frozen=True)
class Collate:
    """Callable that makes a `Batch` of samples, in the worker process that read them."""

    transform: Transform
    clip_transform: Transform | None

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Preprocess the readable images and stack them.

        Raises:
            ValueError: a preprocessing does not turn every image into a tensor of one shape.
        """
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
    """Yield number and content of batches of ``batch_size`` images in the order of the probe; the last may be smaller.

    Args:
        probe: probing set to read. A stream is read by this process, whatever ``workers`` is.
        transform: preprocessing of the network.
        clip_transform: preprocessing of CLIP; None if it needs no images.
        batch_size: images in a batch, at least 1.
        workers: number of processes that read and preprocess, each two batches ahead; with 0 this process does it.
        only: numbers of the wanted batches; None for all. The other images of a stream are read and dropped.
        pin: put the batches in page-locked memory, from which copies to a GPU do not wait.

    Raises:
        ValueError: ``only`` holds a number of which the probe has no batch, or images become tensors of several shapes.
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
