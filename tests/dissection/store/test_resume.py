"""A dissection that is killed goes on where it was."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.processes import processes
from tests.support.stores import dissect_slowly, same

COUNT, SHARD, KILLS = 120, 4, 10


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


@pytest.mark.slow
def test_killed_ten_times(tmp_path: Path) -> None:
    """Each time at a random moment, a few images after it went on; at most one shard is recorded again each time."""
    store, log, chance = tmp_path / "store", tmp_path / "log", random.Random(0)
    kills = 0
    while kills < KILLS:
        process = processes.Process(target=dissect_slowly, args=(store, log, COUNT, SHARD))
        process.start()
        assert process.pid is not None
        goal, patience = len(lines(log)) + chance.randrange(14), time.monotonic() + 60
        while len(lines(log)) < goal and process.is_alive() and time.monotonic() < patience:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.01))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL  # it had not come to its end
        kills += 1
    finished = dissect_slowly(store, log, COUNT, SHARD)

    again = sum(Counter(lines(log)).values()) - COUNT
    print(f"{kills} kills, {again} of {COUNT} images read again")
    assert again <= kills * SHARD
    assert same(finished, dissect_slowly(None, tmp_path / "other", COUNT, SHARD))
    stored = len(lines(log))
    assert same(finished, dissect_slowly(store, log, COUNT, SHARD))
    assert len(lines(log)) == stored  # all is there: no image is read
