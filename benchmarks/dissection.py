"""Time and memory of the similarities, beside the published dense formulas, on synthetic embeddings."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.dense import DENSE
from lwta.dissection.activations import WinnerActivations
from lwta.dissection.similarity import Shard, find_similarity

EMBEDDING, NEURONS, COMPETITORS, SHARD, RUNS = 512, 768, 8, 4096, 3
SIZES = {
    "cos": (20_000, 20_000),
    "cos_cubed": (10_000, 500),
    "wpmi": (20_000, 2_000),
    "soft_wpmi": (20_000, 2_000),
    "rank_reorder": (10_000, 500),
    "jsd": (10_000, 500),
}
LARGE = ("cos", 1_280_000, 20_000)
QUICK = 40
"""Sizes are divided by this in a quick run."""


@dataclass(frozen=True)
class Case:
    """A measurement: one similarity, ours or the dense formula."""

    similarity: str
    images: int
    concepts: int
    dense: bool = False
    streamed: bool = False
    """The images come from a generator and are never in memory together."""


def run(quick: bool = False) -> list[dict[str, Any]]:
    """A row for each similarity: images, concepts, neurons, seconds and peak bytes, ours and of the dense formula.

    Seconds are the least of three runs from the recorded shards to the scores; peak bytes what the process grew by
    above its inputs, or, for the probe that is streamed, all that it had.
    """
    rows = []
    for name, sizes in SIZES.items():
        images, concepts = (size // QUICK if quick else size for size in sizes)
        ours = _measured(Case(name, images, concepts))
        baseline = _measured(Case(name, images, concepts, dense=True)) if name in DENSE else None
        rows.append(_row(name, images, concepts, ours, baseline))
    name, images, concepts = LARGE
    if quick:
        images, concepts = images // QUICK**2, concepts // QUICK
    return [*rows, _row(name, images, concepts, _measured(Case(name, images, concepts, streamed=True)), None)]


def _row(
    name: str, images: int, concepts: int, ours: tuple[float, int], baseline: tuple[float, int] | None
) -> dict[str, Any]:
    return {
        "similarity": name,
        "images": images,
        "concepts": concepts,
        "neurons": NEURONS,
        "seconds": ours[0],
        "baseline_seconds": baseline and baseline[0],
        "ratio": baseline and round(baseline[0] / ours[0], 2),
        "peak_bytes": ours[1],
        "baseline_peak_bytes": baseline and baseline[1],
    }


def _measured(case: Case) -> tuple[float, int]:
    """Seconds and bytes of a case, in a process of its own, since a process's peak never falls."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(case, sender))
    process.start()
    sender.close()
    try:
        result: tuple[float, int] = receiver.recv()
    except EOFError:
        raise RuntimeError(f"the measurement of {case} ended without a result") from None
    finally:
        process.join()
    return result


def _report(case: Case, sender: Connection) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    texts = normalize(torch.randn(case.concepts, EMBEDDING), dim=1)
    if case.streamed:
        sender.send(_streamed(case, texts))
        return
    shards = list(_shards(case.images))
    if case.dense:
        features = torch.cat([shard.features for shard in shards])
        activations = torch.cat([shard.activations.dense() for shard in shards])
    before = _peak_bytes()
    seconds, peak = [], 0
    for _ in range(RUNS):
        began = time.perf_counter()
        if case.dense:
            DENSE[case.similarity](features @ texts.T, activations)
        else:
            _scores(case.similarity, shards, texts)
        seconds.append(time.perf_counter() - began)
        peak = peak or _peak_bytes() - before
    sender.send((min(seconds), peak))


def _scores(name: str, shards: list[Shard], texts: Tensor) -> Tensor:
    similarity = find_similarity(name)()
    for shard in shards:
        similarity.update(shard)
    return similarity.finalize(texts)


def _streamed(case: Case, texts: Tensor) -> tuple[float, int]:
    """Seconds without those that the generator takes."""
    similarity, seconds = find_similarity(case.similarity)(), 0.0
    for shard in _shards(case.images):
        began = time.perf_counter()
        similarity.update(shard)
        seconds += time.perf_counter() - began
    began = time.perf_counter()
    similarity.finalize(texts)
    return seconds + time.perf_counter() - began, _peak_bytes()


def _shards(images: int) -> Iterator[Shard]:
    """Embeddings around a few centres, and the winners of a layer."""
    centres = torch.randn(50, EMBEDDING)
    blocks = NEURONS // COMPETITORS
    for start in range(0, images, SHARD):
        n = min(SHARD, images - start)
        features = normalize(centres[torch.randint(50, (n,))] + torch.randn(n, EMBEDDING), dim=1)
        units = torch.arange(blocks) * COMPETITORS + torch.randint(COMPETITORS, (n, blocks))
        winners = WinnerActivations(
            values=torch.randn(n * blocks),
            units=units.flatten().int(),
            shares=torch.ones(n * blocks),
            counts=torch.full((n,), blocks),
            neurons=NEURONS,
        )
        yield Shard(torch.arange(start, start + n), features, winners)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
