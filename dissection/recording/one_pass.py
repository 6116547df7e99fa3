"""Pass over the probe, in which every batch of images runs once through the network and once through CLIP."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lwta.dissection.recording.activations import Activations, DenseActivations, Pool, average
from lwta.dissection.recording.hooks import Tap, tapped
from lwta.dissection.recording.loading import Skipped, Transform, batches
from lwta.dissection.recording.precision import Precision, computing, own_type, resolved
from lwta.dissection.words.encoder import Encoder, checked_embeddings
from lwta.images import Probe
from lwta.support.running import device_of, evaluating
from lwta.support.seeds import derive, seeded


class Encoded(NamedTuple):
    """Activations and CLIP embeddings of one batch of the probe."""

    number: int
    """Number of the batch, from 0: images ``number·batch_size`` to ``(number + 1)·batch_size − 1`` of the probe."""
    keys: list[str]
    """Keys of the n readable images."""
    labels: list[str | None]
    """Labels of the n readable images; None for an image without one."""
    features: Tensor
    """CLIP embeddings, (n, d) float32, normalised; (0, 0) where no image was readable."""
    activations: dict[str, Activations]
    """Activations on the n images, by layer; empty where no image was readable."""
    skipped: list[Skipped]
    """Images that could not be read."""
    heads: tuple[str, ...] = ()
    """Classification heads among the layers, found on the first batch that this pass ran: see `is_head`."""


@dataclass(frozen=True)
class Pass:
    """Settings of a pass over the probe, or any part of it; see `lwta.dissection.dissect` for their meaning."""

    model: nn.Module
    layers: Sequence[str]
    """Names of the modules to record, each once."""
    probe: Probe
    clip: Encoder
    transform: Transform
    pool: Pool = "auto"
    batch_size: int = 64
    workers: int = 0
    seed: int = 0
    device: torch.device | str | None = None
    precision: Precision = "auto"
    draws: int = 1
    compile: bool = False

    @property
    def place(self) -> torch.device:
        """Device to compute on: the one asked for, else that of the model."""
        return device_of(self.model) if self.device is None else torch.device(self.device)


def encode(work: Pass, only: Collection[int] | None = None) -> Iterator[Encoded]:
    """Run network and CLIP over the probe, and yield the results batch by batch.

    The result of a batch depends on its images and its number, not on which other batches are run.

    Args:
        work: settings of the pass.
        only: numbers of the batches to run; None means all.

    Raises:
        TypeError: CLIP returned no tensor of floating-point numbers.
        ValueError: ``draws`` is below 1, ``precision`` is unknown, or CLIP returned embeddings of another shape, or
            some that are not finite or zero; the images are named.
    """
    if work.draws < 1:
        raise ValueError(f"draws must be at least 1, got {work.draws}")
    clip, place = work.clip, work.place
    with evaluating(work.model, place), tapped(work.model, work.layers, work.pool) as taps:
        clip.to(place)
        network = Network(work, taps)
        clip_precision = computing(work.precision, place)
        for number, batch in batches(
            work.probe,
            work.transform,
            clip.preprocess,
            batch_size=work.batch_size,
            workers=work.workers,
            only=only,
            pin=place.type == "cuda",
        ):
            features, activations = torch.empty(0, 0), {}
            if batch.inputs is not None:
                # not around the yield: the consumer's own tensors would become inference tensors
                with torch.inference_mode():
                    activations = network(batch.inputs, batch.keys, number)
                    with clip_precision:
                        features = clip.encode_images(batch.keys, batch.clip_inputs)
                    features = checked_embeddings(features, "image", batch.keys)
            yield Encoded(number, batch.keys, batch.labels, features, activations, batch.skipped, network.heads)


class Network:
    """Dissected network, run for the activations of its layers.

    Args:
        work: settings of the pass.
        taps: hooks on the layers.

    Attributes:
        heads: classification heads among the layers, known once a batch was run.
    """

    def __init__(self, work: Pass, taps: Sequence[Tap]) -> None:
        model = work.model
        # the hooks are compiled with the network; with fallback_random the draws are those of the network as it is
        self._model = torch.compile(model, options={"fallback_random": True}) if work.compile else model
        self._taps = taps
        self._place = place = work.place
        self._seed = work.seed
        self._draws = work.draws
        self._type = own_type(model)
        self._precision = computing(work.precision, place, self._type)
        types = (self._type, getattr(torch, resolved(work.precision, place, self._type)))
        self._rounding = max(torch.finfo(kind).eps for kind in types)
        self.heads: tuple[str, ...] = ()
        self._ran = False
        convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
        self._channels_last = place.type == "cuda" and convolves  # which the convolutions of tensor cores ask for

    def __call__(self, inputs: Tensor, keys: Sequence[str], number: int) -> dict[str, Activations]:
        """Return the activations on a batch by layer, averaged over the draws.

        Args:
            inputs: preprocessed images of the batch.
            keys: their keys.
            number: number of the batch, on which the draws depend.

        Raises:
            ValueError: a layer did not run exactly once, or gave NaN or infinity; the pooling does not fit a layer.
            TypeError: the output of a layer is not a tensor of 2, 3 or 4 dimensions.
        """
        inputs = inputs.to(self._place, non_blocking=True)
        if inputs.is_floating_point():
            inputs = inputs.to(self._type)
        if self._channels_last and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        drawn: dict[str, list[Activations]] = {tap.name: [] for tap in self._taps}
        for draw in range(self._draws):
            with seeded(derive(self._seed, number, draw), self._place), self._precision:
                output = self._model(inputs)
            for tap in self._taps:
                drawn[tap.name].append(tap.take(keys))
            if not self._ran:  # of one draw, as other draws have other winners
                last = {name: activations[-1] for name, activations in drawn.items()}
                self.heads = tuple(name for name in last if is_head(last[name], output, self._rounding))
                self._ran = True
        return {name: average(activations) for name, activations in drawn.items()}


def is_head(activations: Activations, output: object, rounding: float) -> bool:
    """Return whether a layer is the network's classification head, by its activations on one batch.

    It is if it has no competition and its pooled output is what the network returns, two numbers or more for each
    image, and if these are logits: not yet probabilities, which are not negative and add up to 1.

    Args:
        activations: activations of the layer on the n images of the batch.
        output: what the network returned for them.
        rounding: relative error of the numbers of the type in which the network computes.

    Example:
        >>> logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
        >>> is_head(DenseActivations(logits), logits[:, :, None, None], 1e-7)
        True
        >>> is_head(DenseActivations(logits.softmax(1)), logits.softmax(1), 1e-7)
        False
    """
    if not isinstance(activations, DenseActivations) or not isinstance(output, Tensor):
        return False
    if output.ndim < 2 or not output.is_floating_point():
        return False
    values, returned = activations.values, output.detach().flatten(1).float().cpu()
    if returned.shape != values.shape or values.shape[1] < 2:
        return False
    # the network may have pooled the layer itself: summed in another order, and rounded to a type of its own
    bound = rounding * returned.abs() + 1e-5 * returned.abs().max()
    if not bool(((values - returned).abs() <= bound).all()):
        return False
    return bool((returned < 0).any() or ((returned.sum(1) - 1).abs() > max(1e-4, 2 * rounding)).any())
