"""Record of what the tests executed on the CPU: kernels, variants, instructions, time.

With LWTA_EXECUTIONS naming a file, the session's sums are written there, for docs/kernels.md:
``LWTA_EXECUTIONS=benchmarks/results/executions.json python -m pytest tests/kernels``.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from ptx import Session

FILE = os.environ.get("LWTA_EXECUTIONS")


@dataclass
class _Sums:
    variants: set[int] = field(default_factory=set)
    launches: int = 0
    instructions: int = 0
    seconds: float = 0.0


_sums: defaultdict[tuple[str, str], _Sums] = defaultdict(_Sums)


def note(session: Session) -> None:
    """Add what a session executed to the sums, by kernel and target."""
    if FILE is None:
        return
    for launched in session.launches:
        sums = _sums[launched.name, session.target]
        sums.variants.add(hash(launched.text))
        sums.launches += 1
        sums.instructions += 32 * launched.counts.instructions().total()
        sums.seconds += launched.seconds


def write() -> None:
    """Write the sums to the file, a row for each kernel and target."""
    if FILE is None or not _sums:
        return
    rows = [
        {
            "kernel": kernel,
            "target": target,
            "variants": len(sums.variants),
            "launches": sums.launches,
            "instructions": sums.instructions,
            "seconds": round(sums.seconds, 2),
        }
        for (kernel, target), sums in sorted(_sums.items())
    ]
    lines = ",\n  ".join(map(json.dumps, rows))
    Path(FILE).write_text(f'{{"suite": "executions",\n "rows": [\n  {lines}\n ]\n}}\n', encoding="utf-8")
