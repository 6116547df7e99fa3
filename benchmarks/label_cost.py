"""Cost of keeping the moments of a layer, as a share of the cost of recording it: both in one run, by turns.

Recorded is a stage of a ResNet beside the image encoder of CLIP, with random weights, on random images that lie in
memory: as no file is read or decoded, recording costs rather less here than it does. Summed up are the moments of what
was recorded, in shards of a batch as a recording in memory has them, and in large ones as those of a store; and the
moments of winners, as many as the layer has blocks. The images come again and again until there are enough for the sums
to be in their stride. Shards come from memory.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import open_clip
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torchvision import transforms

from benchmarks.label_scale import QUICK as QUICK_SCALE
from benchmarks.label_scale import Scale, Simulated, measured_apart
from lwta.dissection.moments.measuring import moments_of
from lwta.dissection.recording.activations import DenseActivations
from lwta.dissection.recording.layers import Layer
from lwta.dissection.recording.one_pass import Pass
from lwta.dissection.recording.recording import Recording, record
from lwta.dissection.words.clip import ClipEncoder
from lwta.images import Probe


class Recorded(NamedTuple):
    """What is recorded in a round."""

    network: str = "resnet50"
    stage: str = "layer4"
    clip: str = "ViT-B-32"
    pixels: int = 224
    batch: int = 32
    images: int = 64
    rounds: int = 5


QUICK = Recorded("resnet18", "layer1", "tiny", 32, 4, 8, 3)
SUMMED = Scale(images=8_192)
"""Sizes of the layer whose moments are summed up in a round: those of the recorded stage, over more images."""
QUICK_SUMMED = QUICK_SCALE._replace(images=200, shard=100)


def run(quick: bool = False) -> Iterator[dict[str, Any]]:
    """Yield seconds for each image of recording and of keeping the moments, for each form that a recording has.

    Args:
        quick: small sizes, which show that everything runs and no more.

    Raises:
        RuntimeError: the measurement failed.
    """
    sizes = (QUICK, QUICK_SUMMED) if quick else (Recorded(), SUMMED)
    yield from measured_apart("benchmarks.label_cost", *map(json.dumps, sizes))


def measure(recorded: Recorded, summed: Scale) -> list[dict[str, Any]]:
    """Rows of one run: what is timed takes turns, and medians are told."""
    torch.manual_seed(0)
    work, stage = _work(recorded), Layer(recorded.stage)
    forms = _forms(record(work, [stage], progress=False), summed)
    seconds: dict[str, list[float]] = {"recording": [], **{step: [] for step in forms}}
    for _ in range(recorded.rounds):
        seconds["recording"].append(_seconds(lambda: record(work, [stage], progress=False)) / recorded.images)
        for step, (scale, shards) in forms.items():
            simulated = Simulated(scale, shards)  # anew, as a recording keeps its moments
            seconds[step].append(_seconds(lambda one=simulated: moments_of(one, "act")) / scale.images)
    recording = statistics.median(seconds["recording"])
    return [
        {
            "kind": "cost",
            "step": step,
            **recorded._asdict(),
            "neurons": scale.neurons,
            "competitors": shards[0][1].competitors,
            "features": scale.features,
            "shard": scale.shard,
            "summed": scale.images,
            "recording_seconds": float(f"{recording:.4g}"),
            "moments_seconds": float(f"{statistics.median(seconds[step]):.4g}"),
            "ratio": float(f"{statistics.median(seconds[step]) / recording:.4g}"),
            "threads": torch.get_num_threads(),
        }
        for step, (scale, shards) in forms.items()
    ]


def _forms(recording: Recording, summed: Scale) -> dict[str, tuple[Scale, list[tuple[Tensor, Any]]]]:
    """Sizes and shards of the recordings whose moments are summed up, by name."""
    batches = [(shard.features, shard.activations.dense()) for shard in recording.shards(recording.layers[0])]
    whole = tuple(torch.cat(part) for part in zip(*batches, strict=True))
    again = torch.arange(summed.shard) % len(whole[0])
    in_memory = summed._replace(shard=len(batches[0][0]))
    return {
        "dense, in memory": (in_memory, [(features, DenseActivations(values)) for features, values in batches]),
        "dense, in a store": (summed, [(whole[0][again], DenseActivations(whole[1][again]))]),
        "winners, in a store": (summed, Simulated(summed).drawn),
    }


def _work(recorded: Recorded) -> Pass:
    """Pass that records the stage of the network."""
    noise = np.random.default_rng(0)
    shape = recorded.pixels, recorded.pixels, 3
    pairs = [
        (f"{number:04d}", Image.fromarray(noise.integers(256, size=shape, dtype=np.uint8)))
        for number in range(recorded.images)
    ]
    to_input = [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    return Pass(
        model=torchvision.models.get_model(recorded.network, weights=None).eval(),
        layers=[recorded.stage],
        probe=Probe.of(pairs),
        clip=ClipEncoder() if recorded.clip == "tiny" else _RandomClip(recorded.clip),
        transform=transforms.Compose(to_input),
        batch_size=recorded.batch,
    )


class _RandomClip(ClipEncoder):
    """CLIP with random weights, for images alone.

    Args:
        name: a model of open_clip.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._model, _, self._transform = open_clip.create_model_and_transforms(name)
        self._model.eval().requires_grad_(False)
        self._device = torch.device("cpu")


def _seconds(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps(measure(Recorded(*json.loads(sys.argv[1])), Scale(*json.loads(sys.argv[2])))))
