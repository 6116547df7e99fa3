"""Limits on the machine code of the kernels, and their compilation for every target; needs no GPU.

Compilation runs in a process of its own, since the tests' own has Triton's interpreter switched on.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from benchmarks.__main__ import merge
from tests.support.places import ROOT

# Highest number of instructions an element, bfloat16 on sm_90, for U = 2, 8 and 16.
LIMITS = {"lwta_forward_sample": 34, "lwta_backward_sample": 47, "lwta_forward_argmax": 14}
# U = 12 and 24, which fill three quarters of a power of two; Triton 3.6 needs four instructions more than 3.9 backward.
LIMITS_PADDED = {**LIMITS, "lwta_forward_sample": 36, "lwta_backward_sample": 54}

# Bytes of shared memory that a program may have; of sm_80 that of its consumer siblings (sm_86, sm_89, sm_120), 99 KB.
SHARED = {"sm_80": 99 << 10, "sm_90": 227 << 10, "gfx942": 64 << 10}


def _compile(
    targets: tuple[str, ...],
    competitors: tuple[int, ...],
    dtype: str = "torch.bfloat16",
    only: str = "",
    stage: tuple[int, ...] = (64, 192, 56, 56),
) -> list[dict[str, Any]]:
    program = (
        f"import json, torch\nfrom benchmarks import static\nstatic.STAGE = {stage}\n"
        f"print(json.dumps(static.run({targets!r}, ({dtype},), {competitors!r}, {only!r})))"
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
def test_blocks_of_12_and_24_stay_near_the_budget() -> None:
    rows = [row for row in _compile(("sm_90",), (12, 24), only="lwta_") if row["kernel"] in LIMITS_PADDED]
    assert len(rows) == 6
    for row in rows:
        assert row["instructions_per_element"] <= LIMITS_PADDED[row["kernel"]], row
        assert min(row["load_bits"], row["store_bits"]) >= (64 if row["competitors"] == 12 else 128), row
        assert row["spills"] == 0, row


@pytest.mark.slow
def test_any_number_of_positions_stays_near_the_budget() -> None:
    """7×7 positions: no two that neighbour are known to be aligned, and still a warp's lanes take neighbours."""
    limits = {"lwta_forward_argmax_nchw": 18, "lwta_backward_sample_nchw": 66}
    rows = _compile(("sm_90",), (2, 8, 12, 24), only="lwta_", stage=(64, 384, 7, 7))
    rows = [row for row in rows if row["kernel"] in limits]
    assert len(rows) == 8
    for row in rows:
        assert row["instructions_per_element"] <= limits[row["kernel"]], row


@pytest.mark.slow
def test_nothing_spills_and_products_use_tensor_cores(sm_90: list[dict[str, Any]]) -> None:
    for row in sm_90:
        assert row["spills"] == 0, row
    products = [row for row in sm_90 if row["kernel"].startswith(("linear_winners", "winners_linear_expand"))]
    assert len(products) == 9
    assert all(row["tensor_core_instructions"] > 0 for row in products)


@pytest.mark.slow
def test_kernels_for_dissection_use_tensor_cores_and_load_widely(sm_90: list[dict[str, Any]]) -> None:
    rows = [row for row in sm_90 if row["kernel"].startswith(("winners_sum", "concept_"))]
    assert Counter(row["kernel"] for row in rows) == {
        "winners_sum": 3,
        "concept_similarity_1": 1,
        "concept_similarity_3": 1,
        "concept_logsumexp": 1,
        "concept_log_p": 1,
    }
    for row in rows:
        assert row["tensor_core_instructions"] > 0, row
        assert row["load_bits"] == 128, row


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["winners_sum", "concept_"])
def test_float32_products_of_dissection_use_tensor_cores(kernel: str) -> None:
    rows = _compile(("sm_90", "gfx942"), (12,), "torch.float32", kernel)
    assert {row["target"] for row in rows} == {"sm_90", "gfx942"}
    for row in rows:
        if row["target"] == "sm_90":
            assert row["tensor_core_instructions"] >= 12, row  # three for each product
            assert row["spills"] == 0, row


def test_merging_replaces_rows_in_place_and_appends_new_kernels() -> None:
    def row(kernel: str, competitors: int | None, registers: int) -> dict[str, Any]:
        return {
            "kernel": kernel, "target": "sm_90", "dtype": "float32", "competitors": competitors, "registers": registers
        }  # fmt: skip

    old = [row("a", 2, 1), row("b", None, 1), row("a", 8, 1)]
    new = [row("c", None, 2), row("b", None, 2)]
    assert merge(old, new) == [row("a", 2, 1), row("b", None, 2), row("a", 8, 1), row("c", None, 2)]
    assert merge([], new) == new


@pytest.mark.slow
def test_every_kernel_compiles_for_the_other_targets() -> None:
    rows = _compile(("sm_80", "gfx942"), (12,))
    assert {row["target"] for row in rows} == {"sm_80", "gfx942"}
    assert all(row["spills"] in (0, None) for row in rows)
    assert all(row["shared_bytes"] <= SHARED[row["target"]] for row in rows)


@pytest.mark.slow
def test_the_largest_tiles_fit_into_shared_memory() -> None:
    rows = _compile(tuple(SHARED), (2, 8), only="linear_winners")
    assert len(rows) == 2 * 2 * 3
    for row in rows:
        assert 0 < row["shared_bytes"] <= SHARED[row["target"]], row
