"""Time and memory of the similarities, against the published dense formulas; synthetic embeddings and winners.

Every measurement has a process of its own. Memory is measured in another than time: there all that is freed goes back
to the system, which takes time, and so the peak is of what is needed at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from benchmarks.published import FORMULAS
from lwta.dissection.recording.activations import WinnerActivations
from lwta.dissection.recording.recording import Shard
from lwta.dissection.similarity import SIMILARITIES

ROOT = Path(__file__).resolve().parents[1]
FEATURES, COMPETITORS, SHARD = 512, 8, 2048
ENOUGH = 15  # seconds after which a measurement is not repeated
DRAWN = 8  # shards of a stream that are drawn; they come again and again


class Case(NamedTuple):
    """What to measure."""

    similarity: str
    images: int
    concepts: int
    neurons: int
    published: bool = False
    """The dense formula in place of this library's."""
    streamed: bool = False
    """Shards are made as they are needed, and peak memory is that of the whole process."""
    runs: int = 3


CASES = (
    Case("cos", 20_000, 20_000, 768),
    Case("cos_cubed", 10_000, 500, 768),
    Case("wpmi", 20_000, 2_000, 768),
    Case("soft_wpmi", 20_000, 2_000, 768),
    Case("rank_reorder", 10_000, 500, 768),
    Case("jsd", 10_000, 500, 768),
    Case("cos", 1_280_000, 20_000, 768, streamed=True, runs=1),
)
QUICK = (Case("soft_wpmi", 3_000, 50, 64, runs=1), Case("cos", 40_000, 50, 64, streamed=True, runs=1))


def run(quick: bool = False) -> list[dict[str, Any]]:
    """A row for each similarity: best time of a few runs and peak memory above the inputs, ours and the published one.

    Args:
        quick: small sizes, which show that everything runs and no more.
    """
    rows = []
    for case in tqdm(QUICK if quick else CASES, desc="measuring", unit="similarity"):
        ours = _figures(case)
        theirs = {"seconds": None, "peak_bytes": None} if case.streamed else _figures(case._replace(published=True))
        rows.append(
            {
                "similarity": case.similarity,
                "images": case.images,
                "concepts": case.concepts,
                "neurons": case.neurons,
                "seconds": ours["seconds"],
                "baseline_seconds": theirs["seconds"],
                "ratio": None if case.streamed else round(theirs["seconds"] / ours["seconds"], 2),
                "peak_bytes": ours["peak_bytes"],
                "baseline_peak_bytes": theirs["peak_bytes"],
            }
        )
    return rows


def _figures(case: Case) -> dict[str, Any]:
    """Seconds of the one process, peak bytes of the other; a stream takes too long for two."""
    figures = _in_a_process(case)
    if not case.streamed:
        figures["peak_bytes"] = _in_a_process(case._replace(runs=1), MALLOC_MMAP_THRESHOLD_="65536")["peak_bytes"]
    return figures


def _in_a_process(case: Case, **environment: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.dissection", json.dumps(case)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    if done.returncode:
        raise RuntimeError(f"the measurement of {case} failed:\n{done.stderr}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(case: Case) -> dict[str, Any]:
    """Seconds and peak bytes, in this process."""
    torch.manual_seed(0)
    if case.streamed:
        return {"seconds": _stream(case, _texts(case)), "peak_bytes": _memory("VmHWM")}
    work = _work(case)
    small = case._replace(images=case.images // 10, concepts=case.concepts // 10)
    _work(small)()  # what libraries load and allocate at their first use counts for nobody
    _forget_peak()
    before = _memory("VmRSS")
    seconds: list[float] = []
    while len(seconds) < case.runs and sum(seconds) < ENOUGH:
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "peak_bytes": _memory("VmHWM") - before}


def _work(case: Case) -> Callable[[], Tensor]:
    """What is measured, with its input in memory."""
    texts, shards = _texts(case), list(_shards(case))
    if not case.published:
        return lambda: _ours(case, shards, texts)
    features = torch.cat([shard.features for shard in shards])
    activations = torch.cat([shard.activations.dense() for shard in shards])
    return lambda: FORMULAS[case.similarity](features, texts, activations)


def _texts(case: Case) -> Tensor:
    return normalize(torch.randn(case.concepts, FEATURES) + 0.5, dim=1)


def _ours(case: Case, shards: list[Shard], texts: Tensor) -> Tensor:
    similarity = SIMILARITIES[case.similarity]()
    for shard in shards:
        similarity.update(shard)
    return similarity.finalize(texts)


def _stream(case: Case, texts: Tensor) -> float:
    """Seconds of the similarity alone, without those of making shards."""
    similarity, seconds = SIMILARITIES[case.similarity](), 0.0
    drawn = list(_shards(case._replace(images=min(DRAWN * SHARD, case.images))))
    for number, start in enumerate(range(0, case.images, SHARD)):
        shard = drawn[number % len(drawn)]
        shard = shard._replace(ranks=torch.arange(start, start + len(shard.ranks)))
        begin = time.perf_counter()
        similarity.update(shard)
        seconds += time.perf_counter() - begin
    begin = time.perf_counter()
    similarity.finalize(texts)
    return seconds + time.perf_counter() - begin


def _shards(case: Case) -> Iterator[Shard]:
    """Normal responses, of which every block's winner is drawn; embeddings in a cone, as those of CLIP are."""
    blocks = case.neurons // COMPETITORS
    for start in range(0, case.images, SHARD):
        n = min(SHARD, case.images - start)
        responses = torch.randn(n, blocks, COMPETITORS)
        winners = (responses - torch.log(-torch.log(torch.rand_like(responses)))).argmax(2)
        units = (winners + torch.arange(blocks) * COMPETITORS).int().flatten()
        values = responses.gather(2, winners[:, :, None]).flatten()
        counts = torch.full((n,), blocks)
        activations = WinnerActivations(values, units, torch.ones(len(values)), counts, case.neurons, COMPETITORS)
        yield Shard(torch.arange(start, start + n), normalize(torch.randn(n, FEATURES) + 0.5, dim=1), activations)


def _forget_peak() -> None:
    """From here on the process's peak memory counts anew."""
    Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> int:
    """Bytes that this process holds in memory (VmRSS), or has held at most (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(field))


if __name__ == "__main__":
    print(json.dumps(measure(Case(*json.loads(sys.argv[1])))))
