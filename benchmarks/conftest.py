"""Measuring: device work is waited for, memory is counted, and figures are shares of what this machine reaches."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
DTYPE = torch.bfloat16 if CUDA else torch.float32
ROUNDS, WARMUPS = (10, 2) if CUDA else (5, 2)
REPEATS = 10 if CUDA else 1  # runs in a row, so that a GPU does not wait for the CPU to launch the next


def _timed(run: Callable[[], Any]) -> list[float]:
    """Seconds of a run, for each round; by device events on a GPU."""
    times = []
    for turn in range(WARMUPS + ROUNDS):
        if CUDA:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(REPEATS):
                run()
            end.record()
            end.synchronize()
            seconds = start.elapsed_time(end) / 1e3
        else:
            began = time.perf_counter()
            for _ in range(REPEATS):
                run()
            seconds = time.perf_counter() - began
        if turn >= WARMUPS:
            times.append(seconds / REPEATS)
    return times


@pytest.fixture(scope="session")
def ceilings() -> dict[str, float]:
    """Bytes per second of a copy (read and written), operations per second of a product, on this machine, now."""
    elements = 2**28 if CUDA else 2**24
    source = torch.randn(elements // 2, device=DEVICE)
    target = torch.empty_like(source)
    copy = 2 * source.numel() * 4 / statistics.median(_timed(lambda: target.copy_(source)))
    side = 8192 if CUDA else 1024
    a, b = (torch.randn(side, side, device=DEVICE, dtype=DTYPE) for _ in range(2))
    return {"copy": copy, "product": 2 * side**3 / statistics.median(_timed(lambda: a @ b))}


def _saved_bytes(forward: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps for backward, each storage once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(storages.values())


@pytest.fixture
def measure(benchmark: Any, ceilings: dict[str, float]) -> Callable[..., None]:
    """Time ``run`` under pytest-benchmark; ``row`` names the case, ``moved`` and ``operations`` are its least work.

    With ``kept``, a forward pass, the bytes that it keeps for backward are counted as well. A benchmark may measure
    several rows; pytest-benchmark lists the first.
    """
    rows = benchmark.extra_info.setdefault("rows", [])

    def measured(
        run: Callable[[], Any],
        *,
        row: dict[str, Any],
        moved: float | None = None,
        operations: float | None = None,
        kept: Callable[[], Tensor] | None = None,
    ) -> None:
        saved = _saved_bytes(kept) if kept else None
        gc.collect()
        peak = None
        if CUDA:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            run()
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() - before
        times = sorted(_timed(run))
        if not rows:
            benchmark.pedantic(run, rounds=1, warmup_rounds=0)  # one more, so that pytest-benchmark lists the case
        median = statistics.median(times)
        rows.append(
            {
                **row,
                "device": DEVICE.type,
                "dtype": str(DTYPE).removeprefix("torch."),
                "median_s": median,
                "p20_s": times[int(0.2 * len(times))],
                "p80_s": times[int(0.8 * len(times))],
                "share_of_copy": moved and round(moved / median / ceilings["copy"], 4),
                "share_of_product": operations and round(operations / median / ceilings["product"], 4),
                "peak_bytes": peak,
                "saved_bytes": saved,
            }
        )

    return measured
