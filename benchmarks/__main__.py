"""`python -m benchmarks SUITE [--json FILE]`: run a suite, print its table, record it."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from benchmarks.machine import describe

SUITES = ("static",)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--json", type=Path, help="write the rows and a description of the machine here")
    arguments = parser.parse_args()
    rows = importlib.import_module(f"benchmarks.{arguments.suite}").run()
    for row in rows:
        print("  ".join(f"{name}={value}" for name, value in row.items()))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        record = {"suite": arguments.suite, "machine": describe(), "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
