"""Labels of a large layer from its moments: ImageNet's 1.28 million images, 2,048 units, 20,000 words; simulated.

What takes time is the size of the numbers, not what they mean: winners, embeddings and words are random. Every
measurement has a process of its own, whose peak memory is told.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lwta.dissection.labels.choosing import choose_by_moments
from lwta.dissection.moments.measuring import moments_of
from lwta.dissection.moments.moments import Moments
from lwta.dissection.recording.activations import Activations, WinnerActivations
from lwta.dissection.recording.layers import Layer
from lwta.dissection.recording.recording import Recording, Shard
from lwta.dissection.similarity import SIMILARITIES, FromMoments

ROOT = Path(__file__).resolve().parents[1]
DRAWN = 8  # shards that are drawn; they come again and again


class Scale(NamedTuple):
    """Sizes of a simulation."""

    images: int = 1_280_000
    neurons: int = 2_048
    competitors: int = 8
    concepts: int = 20_000
    features: int = 512
    shard: int = 4_096


QUICK = Scale(20_000, 64, 8, 500, 64, 2_000)
STEPS = ("moments", "correlation", "specific", "linear")


def run(quick: bool = False) -> Iterator[dict[str, Any]]:
    """Yield seconds and peak memory of measuring moments, and of labelling by them with a new list of words.

    Args:
        quick: small sizes, which show that everything runs and no more.

    Raises:
        RuntimeError: a measurement failed.
    """
    scale = QUICK if quick else Scale()
    for step in STEPS:
        found = measured_apart("benchmarks.label_scale", step, json.dumps(scale))
        yield {"kind": "scale", "step": step, **scale._asdict(), **found}


def measured_apart(module: str, *arguments: str) -> Any:
    """Return what a measurement printed last, as JSON, in a process of its own.

    Args:
        module: module to run.
        arguments: its arguments.

    Raises:
        RuntimeError: the measurement failed.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the measurement {' '.join(command[2:])} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


class Simulated(Recording):
    """Recording of which each shard is one of a few, with other ranks.

    Args:
        scale: sizes.
        drawn: embeddings and activations of these few, each of ``scale.shard`` images; None for a layer with
            competition whose winners are drawn.
    """

    def __init__(self, scale: Scale, drawn: Sequence[tuple[Tensor, Activations]] | None = None) -> None:
        keys = [f"{number:07d}" for number in range(scale.images)]
        super().__init__(keys, [None] * len(keys), [Layer("act")], [], "mean")
        self._scale = scale
        self.drawn = self._draw_all() if drawn is None else drawn
        """Embeddings and activations of the few shards."""

    @property
    def numbers(self) -> range:
        """Numbers of all shards."""
        return range(-(-self._scale.images // self._scale.shard))

    def recorded_shards(self, module: str, numbers: Iterable[int]) -> Iterator[Shard]:
        """Yield the shards with these numbers."""
        for number in numbers:
            features, activations = self.drawn[number % len(self.drawn)]
            first = number * self._scale.shard
            ranks = torch.arange(first, min(first + self._scale.shard, self._scale.images))
            if len(ranks) < len(features):
                mask = torch.arange(len(features)) < len(ranks)
                features, activations = features[mask], activations.select(mask)
            yield Shard(ranks, features, activations)

    def _draw_all(self) -> list[tuple[Tensor, WinnerActivations]]:
        torch.manual_seed(0)
        return [self._draw() for _ in range(min(DRAWN, len(self.numbers)))]

    def _draw(self) -> tuple[Tensor, WinnerActivations]:
        scale, blocks = self._scale, self._scale.neurons // self._scale.competitors
        units = torch.randint(scale.competitors, (scale.shard, blocks)) + torch.arange(blocks) * scale.competitors
        wins = units.numel()
        return normalize(torch.randn(scale.shard, scale.features) + 0.5, dim=1), WinnerActivations(
            values=torch.randn(wins),
            units=units.flatten().int(),
            shares=torch.ones(wins),
            counts=torch.full((scale.shard,), blocks),
            neurons=scale.neurons,
            competitors=scale.competitors,
        )


def measure(step: str, scale: Scale) -> dict[str, Any]:
    """Seconds and peak bytes of one step, in this process."""
    if step == "moments":
        recording = Simulated(scale)
        started = time.perf_counter()
        moments_of(recording, "act")
    else:
        moments = _moments(scale)
        texts = normalize(torch.randn(scale.concepts, scale.features) + 0.5, dim=1)
        similarity = SIMILARITIES[step]()
        assert isinstance(similarity, FromMoments)
        started = time.perf_counter()
        choose_by_moments(similarity, moments, texts)
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "peak_bytes": _peak(),
        "threads": torch.get_num_threads(),
    }


def _moments(scale: Scale, folds: int = 8) -> Moments:
    """Moments of so many images as they would be read from a store: those of a few thousand images, scaled."""
    few = moments_of(Simulated(scale._replace(images=min(scale.images, 20_000))), "act", folds=folds)
    factor = scale.images / float(few.counts.sum())
    return Moments(
        *(part * factor for part in (few.counts, few.features, few.gram, few.sums, few.squares, few.products))
    )


def _peak() -> int:
    """Largest memory of this process so far."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Scale(*json.loads(sys.argv[2])))))
