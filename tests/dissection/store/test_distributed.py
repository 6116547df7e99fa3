"""Several processes fill one store."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.processes import processes
from tests.support.stores import COUNT, SlowTransform, World, dissect_together

pytestmark = pytest.mark.slow


def together(folder: Path, *, shard: int, similarity: str = "cos", deadly: int | None = None, **changes: Any) -> float:
    """Run two processes to their ends; returns how long it took after the first one ended."""
    (folder / "meeting").unlink(missing_ok=True)
    members = [
        processes.Process(target=dissect_together, args=(rank, 2, folder, shard, similarity, changes, deadly))
        for rank in range(2)
    ]
    for process in members:
        process.start()
    while all(process.is_alive() for process in members):
        time.sleep(0.05)
    first = time.monotonic()
    for process in members:
        process.join(60)
        assert process.exitcode is not None, "a process hangs"
    return time.monotonic() - first


@pytest.mark.parametrize(("shard", "similarity"), [(1, "soft_wpmi"), (8, "cos"), (COUNT, "soft_wpmi")])
def test_two_processes_find_what_one_finds(tmp_path: Path, shard: int, similarity: str) -> None:
    together(tmp_path, shard=shard, similarity=similarity)
    alone = World().dissect(similarity=similarity)
    for rank in range(2):
        scores = torch.load(tmp_path / f"scores-{rank}.pt")
        assert list(scores) == ["act", "head"]
        assert all(torch.equal(scores[layer], alone.similarities(layer)) for layer in scores)
    seen = [json.loads((tmp_path / f"calls-{rank}").read_text()) for rank in range(2)]
    assert [sum(column) for column in zip(*seen, strict=True)] == [COUNT, COUNT]  # each image once in all
    if shard < COUNT:
        assert min(network for network, _ in seen) >= COUNT // 2 - shard


def test_a_process_that_dies_leaves_a_store_to_go_on_from(tmp_path: Path) -> None:
    waited = together(tmp_path, shard=4, deadly=6)
    print(f"the other process ended {waited:.1f} s after")
    assert waited < 30
    assert not (tmp_path / "scores-0.pt").exists()
    message = (tmp_path / "error-0").read_text()
    assert "another process died" in message
    assert "the same command goes on from there" in message

    world = World()
    finished = world.dissect(tmp_path / "store", transform=SlowTransform(tmp_path / "log"), similarity="cos")
    network, _ = world.calls()
    assert network == COUNT - 16 - 4  # all four shards of the first process and one of the other's are there
    assert torch.equal(finished.similarities("act"), World().dissect(similarity="cos").similarities("act"))


def test_all_are_refused(tmp_path: Path) -> None:
    World().dissect(tmp_path / "store", transform=SlowTransform(tmp_path / "log"))
    together(tmp_path, shard=4, seed=7)
    for rank in range(2):
        assert "another seed (stored: 0; now: 7)" in (tmp_path / f"error-{rank}").read_text()
