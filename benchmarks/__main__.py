"""`python -m benchmarks SUITE [--json FILE] [--quick]`: run a suite, print its table, record it."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import describe

SUITES = ("kernels", "static", "counts", "faults", "dissection", "accuracy", "labels")
QUICK = ("dissection", "accuracy", "labels")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--json", type=Path, help="write the rows and a description of the machine here")
    parser.add_argument("--quick", action="store_true", help=f"small sizes, to see that it works ({', '.join(QUICK)})")
    parser.add_argument(
        "--only",
        metavar="NAME",
        help="of the static suite and of the counts, the kernels or operations whose names begin so; of the labels, "
        "hidden, outputs, scale or cost; "
        "other rows of the file stay as they are",
    )
    arguments = parser.parse_args()
    if arguments.quick and arguments.suite not in QUICK:
        parser.error(f"--quick: only {', '.join(QUICK)} have small sizes")
    if arguments.only is not None and arguments.suite not in ("static", "counts", "labels"):
        parser.error("--only is an option of the suites static, counts and labels")
    options: dict[str, Any] = {"quick": True} if arguments.quick else {}
    if arguments.only is not None:
        options["only"] = arguments.only
    rows: list[dict[str, Any]] = []
    failure: BaseException | None = None
    try:
        for row in importlib.import_module(f"benchmarks.{arguments.suite}").run(**options):
            print("  ".join(f"{name}={value}" for name, value in row.items()))
            rows.append(row)
    except (RuntimeError, KeyboardInterrupt) as error:  # what was measured before is kept all the same
        failure = error
    if not rows:
        parser.error(str(failure or f"nothing has a name that begins with {arguments.only!r}"))
    if arguments.json:
        if arguments.only and arguments.json.exists():
            rows = merge(json.loads(arguments.json.read_text(encoding="utf-8"))["rows"], rows)
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(_dump(arguments.suite, rows), encoding="utf-8")
    if failure:
        print(f"error: {failure or 'interrupted'}", file=sys.stderr)
    return 1 if failure else 0


def merge(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The old rows, those of kernels measured anew replaced in their places, and new kernels' rows at the end."""
    named = {_subject(row): row for row in new}
    rows = [named.pop(_subject(row), row) for row in old]
    return [*rows, *named.values()]


def _subject(row: dict[str, Any]) -> tuple[Any, ...]:
    names = ("kind", "network", "layer", "neuron", "labeler", "threshold", "step")  # of the labels
    names += ("operation", "pass", "shape")  # of the counts
    return tuple(str(row.get(name)) for name in (*names, "kernel", "target", "dtype", "competitors"))


def _dump(suite: str, rows: list[dict[str, Any]]) -> str:
    """JSON with a line for each row, so that a change of one figure shows as one line."""
    head = json.dumps({"suite": suite, "machine": describe()}, indent=1)[:-2]
    return head + ',\n "rows": [\n  ' + ",\n  ".join(map(json.dumps, rows)) + "\n ]\n}\n"


if __name__ == "__main__":
    sys.exit(main())
