"""`python -m benchmarks SUITE [--json FILE]`: run a suite, print its table, record it."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import describe

SUITES = ("kernels", "static", "dissection")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--json", type=Path, help="write the rows and a description of the machine here")
    parser.add_argument("--quick", action="store_true", help="dissection at small sizes, to see that it runs")
    arguments = parser.parse_args()
    if arguments.quick and arguments.suite != "dissection":
        parser.error(f"--quick is for the suite dissection, not {arguments.suite}")
    options = {"quick": True} if arguments.quick else {}
    rows = importlib.import_module(f"benchmarks.{arguments.suite}").run(**options)
    for row in rows:
        print("  ".join(f"{name}={value}" for name, value in row.items()))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(_dump(arguments.suite, rows), encoding="utf-8")
    return 0


def _dump(suite: str, rows: list[dict[str, Any]]) -> str:
    """JSON with a line for each row, so that a change of one figure shows as one line."""
    head = json.dumps({"suite": suite, "machine": describe()}, indent=1)[:-2]
    return head + ',\n "rows": [\n  ' + ",\n  ".join(map(json.dumps, rows)) + "\n ]\n}\n"


if __name__ == "__main__":
    sys.exit(main())
