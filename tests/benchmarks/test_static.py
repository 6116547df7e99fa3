"""Limits on the machine code of the kernels, and their compilation for every target; needs no GPU.

Compilation runs in a process of its own, since the tests' own has Triton's interpreter switched on.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
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


Rows = list[dict[str, Any]]

# Reads from each line what to compile, and writes its rows as a line. All is asked of one process: it takes seconds to
# begin.
COMPILER = """
import json, sys, torch
from benchmarks import static

for line in sys.stdin:
    targets, competitors, dtype, names, static.STAGE = json.loads(line)
    rows = [static.run(tuple(targets), (getattr(torch, dtype),), tuple(competitors), name) for name in names]
    print(json.dumps(sum(rows, [])), flush=True)
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Rows]]:
    """A function that compiles the kernels whose names begin with one of some."""
    log = tmp_path_factory.mktemp("compiler") / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", COMPILER],
            cwd=ROOT,
            env={**os.environ, "TRITON_INTERPRET": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    def run(
        targets: tuple[str, ...],
        competitors: tuple[int, ...],
        dtype: str = "bfloat16",
        names: tuple[str, ...] = ("",),
        stage: tuple[int, ...] = (64, 192, 56, 56),
    ) -> Rows:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            print(json.dumps((targets, competitors, dtype, names, stage)), file=process.stdin, flush=True)
            rows: Rows = json.loads(process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):  # it has ended
            pytest.fail(log.read_text()[-2000:])
        return rows

    with process:
        yield run
        process.kill()


@pytest.fixture(scope="module")
def sm_90(compiled: Callable[..., Rows]) -> Rows:
    """All kernels for blocks of 16, which take the most registers; those with limits and products for 2 and 8 too."""
    some = ("lwta_forward", "lwta_backward_sample", "linear_winners", "winners_linear_expand", "winners_sum")
    return [*compiled(("sm_90",), (16,)), *compiled(("sm_90",), (2, 8), names=some)]


@pytest.mark.slow
def test_instructions_stay_within_the_budget(sm_90: Rows) -> None:
    checked = 0
    for row in sm_90:
        if row["kernel"] in LIMITS:
            assert row["instructions_per_element"] <= LIMITS[row["kernel"]], row
            assert row["mufu_per_element"] <= 4, row
            assert (row["load_bits"], row["store_bits"]) == (128, 128), row
            checked += 1
    assert checked == 9


@pytest.mark.slow
def test_blocks_of_12_and_24_stay_near_the_budget(compiled: Callable[..., Rows]) -> None:
    rows = compiled(("sm_90",), (12, 24), names=tuple(LIMITS_PADDED))
    rows = [row for row in rows if row["kernel"] in LIMITS_PADDED]
    assert len(rows) == 6
    for row in rows:
        assert row["instructions_per_element"] <= LIMITS_PADDED[row["kernel"]], row
        assert min(row["load_bits"], row["store_bits"]) >= (64 if row["competitors"] == 12 else 128), row
        assert row["spills"] == 0, row


@pytest.mark.slow
def test_any_number_of_positions_stays_near_the_budget(compiled: Callable[..., Rows]) -> None:
    """7×7 positions: no two that neighbour are known to be aligned, and still a warp's lanes take neighbours."""
    limits = {"lwta_forward_argmax_nchw": 18, "lwta_backward_sample_nchw": 66}
    rows = compiled(("sm_90",), (2, 8, 12, 24), names=tuple(limits), stage=(64, 384, 7, 7))
    assert len(rows) == 8
    for row in rows:
        assert row["instructions_per_element"] <= limits[row["kernel"]], row


@pytest.mark.slow
def test_nothing_spills_and_products_use_tensor_cores(sm_90: Rows) -> None:
    for row in sm_90:
        assert row["spills"] == 0, row
    products = [row for row in sm_90 if row["kernel"].startswith(("linear_winners", "winners_linear_expand"))]
    assert len(products) == 9
    assert all(row["tensor_core_instructions"] > 0 for row in products)


@pytest.mark.slow
def test_kernels_for_dissection_use_tensor_cores_and_load_widely(sm_90: Rows) -> None:
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
def test_float32_products_of_dissection_use_tensor_cores(compiled: Callable[..., Rows]) -> None:
    rows = compiled(("sm_90", "gfx942"), (12,), "float32", ("winners_sum", "concept_"))
    assert len(rows) == 2 * (1 + 4)
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
def test_every_kernel_compiles_for_the_other_targets(compiled: Callable[..., Rows]) -> None:
    rows = compiled(("sm_80", "gfx942"), (12,))
    assert {row["target"] for row in rows} == {"sm_80", "gfx942"}
    assert all(row["spills"] in (0, None) for row in rows)
    assert all(row["shared_bytes"] <= SHARED[row["target"]] for row in rows)


@pytest.mark.slow
def test_the_largest_tiles_fit_into_shared_memory(compiled: Callable[..., Rows]) -> None:
    rows = compiled(tuple(SHARED), (2, 8), names=("linear_winners",))
    assert len(rows) == 2 * 2 * 3
    for row in rows:
        assert 0 < row["shared_bytes"] <= SHARED[row["target"]], row
