"""From samples to batches: each image decoded once and preprocessed for both networks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from math import ceil
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lwta.dissection.probe import Probe, Sample

Transform = Callable[[Image.Image], Tensor]


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
) -> Iterator[tuple[int, Batch]]:
    """Number and content of batches of ``batch_size`` images, the last may have fewer, in the order of the probe.

    Of the numbers in ``only`` alone, if it is not None; a stream is passed over to get at them.
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
        numbers = range(ceil(len(every) / batch_size)) if only is None else sorted(only)
        loader = DataLoader(
            probe,
            batch_sampler=[list(every[number * batch_size : (number + 1) * batch_size]) for number in numbers],
            num_workers=workers,
            collate_fn=collate,
            generator=torch.Generator(),  # else the loader draws its seed from the global generator
        )
        yield from zip(numbers, loader, strict=True)


def default_transform(model: nn.Module) -> Transform:
    """The evaluation preprocessing of a timm model, from its ``pretrained_cfg``.

    Raises:
        ValueError: the model has none.
    """
    if not getattr(model, "pretrained_cfg", None):
        raise ValueError(
            f"transform must be given, since {type(model).__name__} has no pretrained_cfg as timm's models do: "
            "a callable from a PIL image to the network's input, such as torchvision.transforms.Compose([...])"
        )
    from timm.data import create_transform, resolve_data_config

    transform: Transform = create_transform(**resolve_data_config({}, model=model), is_training=False)
    return transform
