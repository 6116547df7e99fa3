"""Times of the kernels on whatever device is there: runs the `bench_*.py` files under pytest-benchmark."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def run() -> list[dict[str, Any]]:
    """A row for each case: operation, provider, size, U, direction, times, shares of the machine's ceilings, memory.

    Raises:
        RuntimeError: a benchmark failed.
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
        if status != pytest.ExitCode.OK:
            raise RuntimeError(f"the benchmarks ended with {pytest.ExitCode(status).name}")
        cases = json.loads(output.read_text())["benchmarks"]
        return [row for case in cases for row in case["extra_info"]["rows"]]
