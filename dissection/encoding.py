"""The pass over the probe: every batch of images once through the network and once through CLIP."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lwta.dissection.activations import Activations, Pool
from lwta.dissection.encoder import Encoder
from lwta.dissection.hooks import evaluating, seeded, tapped
from lwta.dissection.loading import Skipped, Transform, batches
from lwta.dissection.probe import Probe


class Encoded(NamedTuple):
    """What the network and CLIP made of one batch of the probe."""

    number: int
    """Of the batch, from 0: images ``number·batch_size`` to ``(number + 1)·batch_size − 1`` of the probe."""
    keys: list[str]
    """Of the n readable images."""
    labels: list[str | None]
    features: Tensor
    """(n, d) float32 CLIP embeddings, normalised; (0, 0) where no image was readable."""
    activations: dict[str, Activations]
    """By layer, on the n images; empty where no image was readable."""
    skipped: list[Skipped]


def encode(
    model: nn.Module,
    layers: str | Iterable[str],
    probe: Probe,
    *,
    clip: Encoder,
    transform: Transform,
    pool: Pool,
    batch_size: int,
    workers: int,
    seed: int,
    device: torch.device | str | None,
    only: Collection[int] | None = None,
) -> Iterator[Encoded]:
    """Run network and CLIP over the probe, batch by batch. Arguments as in `dissect`.

    Only the batches of the numbers in ``only`` are run, None means all. What a batch gives depends on its images and
    its number, not on which others are run.
    """
    with evaluating(model, device) as place, tapped(model, layers, pool) as taps:
        clip.to(place)
        for number, batch in batches(probe, transform, clip.preprocess, batch_size, workers, only):
            features, activations = torch.empty(0, 0), {}
            if batch.inputs is not None:
                # not around the yield: the consumer's own tensors would become inference tensors
                with torch.inference_mode():
                    with seeded(seed, number, place):
                        model(batch.inputs.to(place, non_blocking=True))
                    activations = {tap.name: tap.take(batch.keys) for tap in taps}
                    features = clip.encode_images(batch.keys, batch.clip_inputs)
            yield Encoded(number, batch.keys, batch.labels, features, activations, batch.skipped)
