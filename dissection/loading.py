"""From samples to batches: each image decoded once and preprocessed for both networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lwta.dissection.probe import Probe, Sample, StreamProbe

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
    probe: Probe, transform: Transform, clip_transform: Transform | None, batch_size: int, workers: int
) -> Iterator[Batch]:
    """Batches of at most ``batch_size`` images, in the order of the probe."""
    loader = DataLoader(
        probe,
        batch_size=batch_size,
        num_workers=0 if isinstance(probe, StreamProbe) else workers,  # every worker would read all the pairs
        collate_fn=Collate(transform, clip_transform),
        generator=torch.Generator(),  # else the loader draws its seed from the global generator
    )
    yield from loader


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
