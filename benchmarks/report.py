"""Write the figures of the documents, and plots, from the recorded results: `python -m benchmarks.report`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.count_report import count_figures, execution_figures, fault_figures
from benchmarks.label_report import example_plot, label_tables
from benchmarks.markdown import markdown_table
from benchmarks.plot import bars

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"


def main() -> int:
    """Rewrite the parts of the documents between the two marks, and the plots."""
    for name, plot in plots().items():
        (ROOT / "docs" / name).write_text(plot, encoding="utf-8")
    for name in documents():
        path = ROOT / name
        path.write_text(with_figures(path.read_text(encoding="utf-8"), name), encoding="utf-8")
    return 0


def with_figures(text: str, document: str = "README.md") -> str:
    """The text of a document with its figures made anew."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{figures(document)}\n{END}{tail}"


def documents() -> dict[str, dict[str, Callable[[dict[str, Any]], str]]]:
    """The tables of each document, by the name of the record that each is made of."""
    return {
        "README.md": {
            "labels": label_tables,
            "accuracy-cpu": _accuracy,
            "kernels-gpu": _kernels,
            "kernels-cpu": _kernels,
            "static": _static,
            "dissection-cpu": _dissection,
        },
        "docs/kernels.md": {
            "executions": execution_figures,
            "injected-faults": fault_figures,
            "counts": count_figures,
        },
    }


def figures(document: str = "README.md") -> str:
    """Every table of a document, for what has been recorded."""
    parts = []
    for name, table in documents()[document].items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            parts.append(table(json.loads(path.read_text())))
    return "\n\n".join(parts)


def plots() -> dict[str, str]:
    """SVG by file name, for what has been recorded."""
    found = {}
    for name in ("kernels-gpu", "kernels-cpu"):
        path = RESULTS / f"{name}.json"
        if path.exists():
            found[f"{name}.svg"] = _competition_plot(json.loads(path.read_text()))
    if (RESULTS / "labels.json").exists():
        picture = example_plot(json.loads((RESULTS / "labels.json").read_text()))
        if picture is not None:
            found["labels.svg"] = picture
    return found


def _competition_plot(record: dict[str, Any]) -> str:
    rows = [row for row in record["rows"] if (row["operation"], row["direction"]) == ("lwta", "both")]
    size, rows = _most_measured(rows)
    times = {(row["provider"], row["competitors"]): row["median_s"] * 1e3 for row in rows}
    competitors = sorted({row["competitors"] for row in rows})
    series = {provider: [times.get((provider, U)) for U in competitors] for provider in _providers(rows)}
    title = f"Competition, forward and backward, {_by(size)}, {_where(record['machine'])}"
    return bars(title, "ms", [f"U = {U}" for U in competitors], series)


def _most_measured(rows: list[dict[str, Any]]) -> tuple[list[int], list[dict[str, Any]]]:
    """Of the sizes of linear layers the one with the most rows, among equals the largest; and its rows."""
    linear = [row["size"] for row in rows if len(row["size"]) < 4]
    size = max(linear, key=lambda size: (linear.count(size), size))
    return size, [row for row in rows if row["size"] == size]


def _by(size: list[int]) -> str:
    return "×".join(map(str, size))


def _where(machine: dict[str, Any]) -> str:
    return machine["gpu"] or f"{machine['cpu']}, {machine['cores']} cores"


def _providers(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["provider"] for row in rows))


def _kernels(record: dict[str, Any]) -> str:
    machine = record["machine"]
    parts = [f"Milliseconds (median) on {_where(machine)}, PyTorch {machine['torch']}, Triton {machine['triton']}."]
    device = "gpu" if machine["gpu"] else "cpu"
    parts.append(f"![Competition, forward and backward](docs/kernels-{device}.svg)")
    titles = {
        ("lwta", "both"): "Competition, forward and backward; in brackets MB kept for backward",
        ("mlp", "training"): "Perceptron of a transformer block, training step; in brackets MB kept for backward",
        ("mlp", "inference"): "The same, inference",
        ("winners_linear", "forward"): "Linear layer fed by winners",
    }
    for (operation, direction), title in titles.items():
        rows = [row for row in record["rows"] if (row["operation"], row["direction"]) == (operation, direction)]
        if rows:
            size, rows = _most_measured(rows)
            parts.append(f"{title}, {_by(size)}, {rows[0]['dtype']}:\n\n{_by_provider(rows)}")
    return "\n\n".join(parts)


def _by_provider(rows: list[dict[str, Any]]) -> str:
    competitors = sorted({row["competitors"] for row in rows})
    cells = {(row["provider"], row["competitors"]): _cell(row) for row in rows}
    body = [[provider, *(cells.get((provider, U), "") for U in competitors)] for provider in _providers(rows)]
    return markdown_table(["", *(f"U = {U}" for U in competitors)], body)


def _cell(row: dict[str, Any]) -> str:
    kept = f" ({row['saved_bytes'] / 1e6:.0f})" if row["saved_bytes"] else ""
    return f"{row['median_s'] * 1e3:.3g}{kept}"


DISSECTION = ("winners_sum", "concept_")
"""Kernels that the table of the competition's kernels does not speak of."""


def _static(record: dict[str, Any]) -> str:
    record = {**record, "rows": [row for row in record["rows"] if not row["kernel"].startswith(DISSECTION)]}
    competitors = sorted({row["competitors"] for row in record["rows"]})
    names = {
        "lwta_forward_sample": "competition, sampled: forward",
        "lwta_backward_sample": "competition, sampled: backward",
        "lwta_forward_argmax": "competition, argmax: forward",
        "lwta_forward_sample_nchw": "the same on NCHW, sampled: forward",
        "lwta_backward_sample_nchw": "the same on NCHW, sampled: backward",
        "linear_winners_sample": "linear + competition, sampled: beside the product",
        "linear_winners_argmax": "linear + competition, argmax: beside the product",
    }
    cells = {
        (row["kernel"], row["competitors"]): row["instructions_per_element"]
        for row in record["rows"]
        if row["target"] == "sm_90" and row["dtype"] == "bfloat16"
    }
    rows = [[title, *(cells.get((kernel, U), "") for U in competitors)] for kernel, title in names.items()]
    spilling = [sum(bool(row["spills"]) for row in record["rows"] if row["target"] == f"sm_{n}") for n in (90, 80)]
    versions = record["machine"]
    return (
        "Instructions an element, bfloat16, read from machine code for sm_90 (Triton "
        f"{versions['triton']}; of {len(record['rows'])} kernels compiled for three targets, {spilling[0]} spill "
        f"registers on sm_90 and {spilling[1]} on sm_80). On an H200 memory is the limit below about "
        "31 instructions for 4 bytes an element (forward) and 46 for 6 (backward).\n\n"
        + markdown_table(["kernel", *(f"U = {U}" for U in competitors)], rows)
    )


WAYS = {
    "sample": "one draw",
    "average": "six draws",
    "argmax": "argmax",
    "expected": "expected output",
    "argmax_calibrated": "argmax, calibrated",
}
"""How a network with competition is evaluated, in the words of the README."""


def _accuracy(record: dict[str, Any]) -> str:
    rows = []
    for row in record["rows"]:
        network = {"resnet20": "ResNet-20", "trained": "WRN-34-1 of the authors", "digits": "digits"}[row["network"]]
        place = {"everywhere": ", as published", "branches": ", none behind additions"}.get(row["placement"] or "", "")
        kind = "ReLU" if row["competitors"] == 1 else f"U = {row['competitors']}"
        ways = [_percent(row, way if row["competitors"] > 1 else {"sample": "argmax"}.get(way, "")) for way in WAYS]
        rows.append([f"{network}, {kind}{place}", row["seeds"], *ways])
    training, images, recipe = (record["rows"][-1].get(name) for name in ("training_images", "size", "epochs"))
    return (
        "Accuracy on test images in per cent, mean ± standard deviation over seeds. ResNet-20: "
        f"{training:,} images of CIFAR-10 at {images}×{images} pixels, {recipe} epochs, one recipe for all. The "
        "authors' network, trained adversarially, and 2,000 images; the digits of scikit-learn:\n\n"
        + markdown_table(["", "runs", *WAYS.values()], rows)
    )


def _percent(row: dict[str, Any], way: str) -> str:
    if row.get(way) is None:
        return ""
    spread = row.get(f"{way}_sd")
    return f"{100 * row[way]:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def _dissection(record: dict[str, Any]) -> str:
    header = ["similarity", "images", "concepts", "seconds", "dense formula", "MB beside the input", "dense formula"]
    rows = [
        [
            *(row["similarity"], f"{row['images']:,}", f"{row['concepts']:,}", f"{row['seconds']:.2f}"),
            "not run" if row["baseline_seconds"] is None else f"{row['baseline_seconds']:.2f}",
            f"{row['peak_bytes'] / 1e6:.0f}" + (" (whole process)" if row["baseline_seconds"] is None else ""),
            "not run" if row["baseline_peak_bytes"] is None else f"{row['baseline_peak_bytes'] / 1e6:.0f}",
        ]
        for row in record["rows"]
    ]
    return (
        f"Similarities against the published dense formulas, {record['rows'][0]['neurons']} neurons in blocks of "
        f"eight, synthetic embeddings, {_where(record['machine'])}:\n\n{markdown_table(header, rows)}"
    )


if __name__ == "__main__":
    sys.exit(main())
