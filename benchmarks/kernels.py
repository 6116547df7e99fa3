"""Times of the kernels on whatever device is there: runs the `bench_*.py` files under pytest-benchmark."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def run() -> Iterator[dict[str, Any]]:
    """A row for each case: operation, provider, size, U, direction, times, shares of the machine's ceilings, memory.

    Raises:
        RuntimeError: a benchmark failed; raised after the rows of those that did not.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "benchmarks.json"
        options = [
            "-q",
            "-p",
            "no:cacheprovider",
            "--override-ini=python_files=bench_*.py",
            f"--benchmark-json={output}",
        ]
        status = pytest.main([str(HERE), *options, "--rootdir", str(HERE.parent)])
        cases = json.loads(output.read_text())["benchmarks"] if output.exists() and output.stat().st_size else []
    for case in cases:
        yield from case["extra_info"]["rows"]
    if status != pytest.ExitCode.OK:
        raise RuntimeError(f"the benchmarks ended with {pytest.ExitCode(status).name}")
