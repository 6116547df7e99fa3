"""Figures of docs/kernels.md: what was executed without a GPU, and what every operation costs by count."""

from __future__ import annotations

from typing import Any

from benchmarks.markdown import markdown_table

Row = dict[str, Any]

BESIDE = {
    "lwta sample": "gelu",
    "linear_winners sample": "unfused linear and lwta",
    "linear_winners": "unfused linear and lwta",
    "LWTALinear evaluation": "unfused linear and lwta argmax",
    "winners_linear": "unfused linear",
    "mlp": "unfused mlp",
}
"""Operations, and what each replaces."""


SHOWN = 8
"""Competitors in the table; the record has others."""


def execution_figures(record: dict[str, Any]) -> str:
    """Return how much compiled code the kernel tests execute, in a sentence and a table."""
    rows = [row for row in record["rows"] if not row["kernel"].startswith("test_")]
    kernels = list(dict.fromkeys(row["kernel"] for row in rows))
    body = []
    for kernel in kernels:
        own = [row for row in rows if row["kernel"] == kernel]
        name = kernel.replace("._", " ").removesuffix("_kernel").removesuffix(" kernel")
        total = {figure: sum(row[figure] for row in own) for figure in ("variants", "launches", "instructions")}
        body.append([name, total["variants"], total["launches"], f"{total['instructions'] / 1e6:.1f}"])
    variants, launches = (sum(row[figure] for row in rows) for figure in ("variants", "launches"))
    seconds = sum(row["seconds"] for row in rows)
    return (
        f"The kernel tests execute {len(kernels)} kernels in {variants} compiled variants, {launches:,} launches of "
        f"{sum(row['instructions'] for row in rows) / 1e9:.2f}·10⁹ instructions in {seconds:.0f} s on one core:\n\n"
        + markdown_table(["kernel", "variants", "launches", "million instructions"], body)
    )


def fault_figures(record: dict[str, Any]) -> str:
    """Return how many injected faults were found."""
    faults = list(dict.fromkeys(row["fault"] for row in record["rows"]))
    body = []
    for fault in faults:
        own = [row for row in record["rows"] if row["fault"] == fault]
        figures = ("injected", "reported", "changed", "equivalent")
        body.append([fault, *(sum(row[figure] for row in own) for figure in figures)])
    return (
        "Faults put into the compiled code, one at a time, and what became of them. Of stores, masks and shuffles a "
        "few of each kernel, of all else every one:\n\n"
        + markdown_table(["fault", "injected", "reported", "else another result", "shown equivalent"], body)
    )


def count_figures(record: dict[str, Any]) -> str:
    """Return predicted time, instructions, bytes and launches of each operation beside what it replaces."""
    totals = [row for row in record["rows"] if row["kernel"] == "total"]
    body = []
    for row in totals:
        if row["operation"] not in BESIDE or row["competitors"] != SHOWN:
            continue
        other = _beside(row, totals)
        body.append(
            [
                f"{row['operation']} {row['pass']}, {_size(row['shape'])}",
                f"{row['predicted_us']:.0f}",
                "" if other is None else f"{other['predicted_us']:.0f} ({other['operation']})",
                row["launches"],
                f"{row['instructions_per_element']:.1f}",
                f"{row['bytes_per_element']:.1f} / {row['least_bytes_per_element']:.1f}",
                row["programs_per_multiprocessor"] or "",
            ]
        )
    first = totals[0]
    header = ["operation", "predicted µs", "what it replaces", "launches", "instructions", "bytes / least", "resident"]
    return (
        f"By count on {first['target']}, {first['dtype']}, U = {SHOWN} (other U in `benchmarks/results/counts.json`): "
        "instructions of the library's own kernels and bytes asked for, by an element of h; programs that a "
        "multiprocessor holds. Predicted for an H200 by the model in `benchmarks/h200.py`; nothing was timed:\n\n"
        + markdown_table(header, body)
    )


def _beside(row: Row, totals: list[Row]) -> Row | None:
    """Return the row of what an operation replaces, at the same size."""
    same = ("pass", "competitors", "shape", "target", "dtype")
    wanted = (BESIDE[row["operation"]], *(row[key] for key in same))
    return next((one for one in totals if (one["operation"], *(one[key] for key in same)) == wanted), None)


def _size(shape: list[int]) -> str:
    return "×".join(map(str, shape))
