"""Limits on the machine code of the kernels, and their compilation for every target; needs no GPU.

Compilation runs in a process of its own, since the tests' own has Triton's interpreter switched on.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Highest number of instructions an element, bfloat16 on sm_90, for U = 2, 8 and 16.
LIMITS = {"lwta_forward_sample": 34, "lwta_backward_sample": 46, "lwta_forward_argmax": 14}


def _compile(targets: tuple[str, ...], competitors: tuple[int, ...]) -> list[dict[str, Any]]:
    program = (
        "import json, torch\nfrom benchmarks import static\n"
        f"print(json.dumps(static.run({targets!r}, (torch.bfloat16,), {competitors!r})))"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def sm_90() -> list[dict[str, Any]]:
    return _compile(("sm_90",), (2, 8, 16))


@pytest.mark.slow
def test_instructions_stay_within_the_budget(sm_90: list[dict[str, Any]]) -> None:
    checked = 0
    for row in sm_90:
        if row["kernel"] in LIMITS:
            assert row["instructions_per_element"] <= LIMITS[row["kernel"]], row
            assert row["mufu_per_element"] <= 4, row
            assert (row["load_bits"], row["store_bits"]) == (128, 128), row
            checked += 1
    assert checked == 9


@pytest.mark.slow
def test_nothing_spills_and_products_use_tensor_cores(sm_90: list[dict[str, Any]]) -> None:
    assert all(row["spills"] == 0 for row in sm_90)
    products = [row for row in sm_90 if row["kernel"].startswith(("linear_winners", "winners_linear_expand"))]
    assert len(products) == 9
    assert all(row["tensor_core_instructions"] > 0 for row in products)


@pytest.mark.slow
def test_every_kernel_compiles_for_the_other_targets() -> None:
    rows = _compile(("sm_80", "gfx942"), (12,))
    assert {row["target"] for row in rows} == {"sm_80", "gfx942"}
    assert all(row["spills"] in (0, None) for row in rows)
