"""Tables of docs/kernels.md show what was recorded."""

from __future__ import annotations

from typing import Any

from benchmarks import count_report


def test_executions_are_summed_over_targets() -> None:
    row = {"kernel": "lwta._forward_kernel", "target": "sm_80", "variants": 3, "launches": 10, "seconds": 1.6}
    other = {**row, "target": "sm_90", "variants": 4, "instructions": 7_000_000, "seconds": 2.6}
    own = {**row, "kernel": "test_blocks._offsets_kernel", "instructions": 1}
    text = count_report.execution_figures({"rows": [{**row, "instructions": 5_000_000}, other, own]})
    assert "1 kernels in 7 compiled variants, 20 launches of 0.01·10⁹ instructions in 4 s" in text
    assert "| lwta forward | 7 | 20 | 12.0 |" in text
    assert "offsets" not in text


def test_faults_are_summed_over_kernels() -> None:
    row = {
        "kernel": "lwta",
        "target": "sm_80",
        "fault": "barrier removed",
        "injected": 4,
        "reported": 2,
        "changed": 1,
        "equivalent": 1,
    }
    text = count_report.fault_figures({"rows": [row, {**row, "kernel": "kl"}, {**row, "fault": "wait removed"}]})
    assert "| barrier removed | 8 | 4 | 2 | 2 |" in text
    assert "| wait removed | 4 | 2 | 1 | 1 |" in text


def count(operation: str, kernel: str = "total", **figures: Any) -> dict[str, Any]:
    kind = {"operation": operation, "pass": "forward", "kernel": kernel, "target": "sm_90", "dtype": "bfloat16"}
    size = {"competitors": 8, "shape": [10, 20], "launches": 3, "programs_per_multiprocessor": 2, "predicted_us": 12.34}
    by_element = {"instructions": 30.06, "bytes": 5.25, "least_bytes": 4.0}
    return kind | size | {f"{name}_per_element": value for name, value in by_element.items()} | figures


def test_counts_stand_beside_what_is_replaced() -> None:
    rows = [
        count("mlp"),
        count("mlp", kernel="torch.mm"),
        count("mlp", competitors=24),
        count("unfused mlp", predicted_us=99.6, programs_per_multiprocessor=None),
    ]
    text = count_report.count_figures({"rows": rows})
    assert "| mlp forward, 10×20 | 12 | 100 (unfused mlp) | 3 | 30.1 | 5.2 / 4.0 | 2 |" in text
    assert text.count("mlp forward") == 1
