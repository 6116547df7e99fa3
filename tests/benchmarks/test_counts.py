"""Counts against closed forms, and their limits."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch

from benchmarks import counts, h200
from benchmarks.counted import Subject, subjects
from benchmarks.launches import LibraryOperation, launched
from benchmarks.machine_code import executed, ptx_loops
from ptx import Counts
from ptx.program import Program

ROWS, FEATURES, UNITS, U = 2048, 192, 768, 8


def small(operation: str, direction: str) -> Subject:
    """An operation over few rows, as the benchmark runs it over many."""
    from benchmarks import counted

    found = [
        *counted._competitions((ROWS, UNITS), U),
        *counted._layers(ROWS, FEATURES, UNITS, U),
        *counted._perceptrons(ROWS, FEATURES, UNITS, U),
    ]
    (one,) = [s for s in found if (s.operation, s.direction) == (operation, direction)]
    return one


def counted_rows(operation: str, direction: str) -> dict[str, dict[str, Any]]:
    """Rows of an operation by kernel."""
    subject = small(operation, direction)
    found = launched(subject.call, torch.bfloat16)
    parts = [counts._counted(one, "sm_90") for one in found.launches]
    names = dict.fromkeys(part.kernel for part in parts)
    rows = {n: counts._row(subject, n, [p for p in parts if p.kernel == n], found.least_bytes, {}) for n in names}
    return {**rows, "total": counts._row(subject, "total", parts, found.least_bytes, {})}


def names_of(operation: str, direction: str) -> list[str]:
    found = launched(small(operation, direction).call, torch.bfloat16)
    return [one.name for one in found.launches]


def test_launches_of_a_perceptron_with_gelu_are_its_products_and_gelu() -> None:
    assert names_of("gelu mlp", "forward") == ["addmm", "gelu", "addmm"]
    assert Counter(names_of("gelu mlp", "backward")) == {"mm": 4, "sum": 2, "gelu_backward": 1}


def test_products_are_counted_at_two_operations_a_term() -> None:
    found = launched(small("gelu mlp", "forward").call, torch.bfloat16)
    first, gelu, _ = found.launches
    assert isinstance(first, LibraryOperation)
    assert isinstance(gelu, LibraryOperation)
    assert first.operations == 2 * ROWS * FEATURES * UNITS
    assert first.bytes == 2 * (ROWS * FEATURES + UNITS * FEATURES + UNITS + ROWS * UNITS)
    assert (gelu.bytes, gelu.operations) == (2 * 2 * ROWS * UNITS, 0)
    operands = ROWS * FEATURES + 2 * UNITS * FEATURES + UNITS + FEATURES
    assert found.least_bytes == 2 * (operands + ROWS * FEATURES)


@pytest.mark.slow
def test_competition_stays_within_what_memory_allows() -> None:
    """At most 34 instructions an element forward and 46 backward; whole sectors, each element once."""
    for direction, instructions, elements in (("forward", 34, 2), ("backward", 46, 3)):
        total = counted_rows("lwta sample", direction)["total"]
        assert total["launches"] == 1
        assert total["least_bytes_per_element"] == pytest.approx(2 * elements, abs=1e-3)
        assert 2 * elements <= total["bytes_per_element"] <= 2 * elements + 0.5  # the seed, of each thread
        assert total["sectors_per_byte"] <= 1 / 32 + 1e-4
        assert 20 < total["instructions_per_element"] <= instructions


@pytest.mark.slow
def test_fused_layer_counts_its_product_and_its_compact_output() -> None:
    rows = counted_rows("linear_winners argmax", "forward")
    total = rows["total"]
    assert total["launches"] == 1
    compact = (2 + 1) / U
    operands = 2 * (ROWS * FEATURES + UNITS * FEATURES + UNITS) + 8
    assert total["least_bytes_per_element"] == pytest.approx(compact + operands / (ROWS * UNITS), abs=1e-3)
    assert total["programs_per_multiprocessor"] >= 1
    least_us = 1e6 * 2 * ROWS * FEATURES * UNITS / h200.PRODUCTS["bfloat16"]
    assert total["predicted_us"] >= least_us - 0.05


def test_every_operation_launches_something_at_its_real_size() -> None:
    for subject in subjects(24):
        found = launched(subject.call, torch.bfloat16)
        assert found.launches, subject
        assert found.least_bytes > 0


LOOP = """
.visible .entry test(.param .u64 p0)
.reqntid 32
{ .reg .pred %p; .reg .b32 %i;
mov.b32 %i, 0;
LOOP: add.s32 %i, %i, 1; setp.lt.s32 %p, %i, 5; @%p bra LOOP;
ret; }
"""
SASS = """
        /*0000*/                   MOV R0, RZ ;
        /*0010*/                   IADD3 R0, R0, 0x1, RZ ;
        /*0020*/                   ISETP.GE.AND P0, PT, R0, 0x5, PT ;
        /*0030*/              @!P0 BRA 0x10 ;
        /*0040*/                   EXIT ;
        /*0050*/                   BRA 0x50;
        /*0060*/                   NOP;
"""


def test_machine_instructions_run_as_often_as_the_loops_of_the_ptx() -> None:
    program, found = Program(LOOP), Counts()
    assert [(loop.first, loop.last) for loop in ptx_loops(program)] == [(1, 1)]
    for block, times in ((0, 3), (1, 15), (2, 3)):
        found.block(program, block, times)
    assert executed(SASS, program, found) == {"MOV": 3, "IADD3": 15, "ISETP.GE.AND": 15, "BRA": 15, "EXIT": 3}


def test_pipes_and_residency() -> None:
    by_pipe = h200.pipes(Counter({"MUFU.EX2": 2, "IMAD.HI.U32": 3, "FFMA": 5, "LOP3.LUT": 7, "LDG.E.128": 1}))
    assert by_pipe == {"issue": 18, "xu": 2, "imad": 3, "alu": 7}
    assert h200.programs_per_multiprocessor(168, 50_000, 4) == 3
    assert h200.programs_per_multiprocessor(255, 140_000, 8) == 1
    assert h200.programs_per_multiprocessor(16, 0, 4) == 16


def test_the_slowest_resource_decides() -> None:
    none: Counter[str] = Counter()
    assert h200.kernel_seconds(h200.MEMORY, 0, none, 0, "bfloat16", 4) == 1
    assert h200.kernel_seconds(0, h200.CACHE, none, 0, "bfloat16", 4) == 1
    assert h200.kernel_seconds(0, 0, none, 700e12, "bfloat16", 4) == 1
    issue = Counter({"issue": int(128 * 132 * 1.98e9 * 0.85)})
    assert math.isclose(h200.kernel_seconds(0, 0, issue, 700e12, "bfloat16", 4), 1, rel_tol=1e-6)
    assert math.isclose(h200.kernel_seconds(0, 0, issue, 700e12, "bfloat16", 1), 2, rel_tol=1e-6)
