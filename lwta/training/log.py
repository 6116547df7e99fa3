"""What a run says while it goes on: a bar, a table, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lwta.support.files import write_atomically

Row = dict[str, float | int]


def write_table(rows: list[Row], path: Path) -> None:
    """All epochs as CSV, in place of what is there."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: round(value, 6) for name, value in row.items()} for row in rows)
    write_atomically(path, lambda temporary: temporary.write_text(text.getvalue(), encoding="utf-8"))


def bar_text(row: Row) -> dict[str, str]:
    """The figures of the last epoch that the bar shows."""
    shown = {
        "test": ("test_top1", ".1%"),
        "active": ("active", ".1%"),
        "entropy": ("entropy", ".2f"),
        "dead": ("dead", "d"),
    }
    return {name: format(row[column], form) for name, (column, form) in shown.items() if column in row}


class Board:
    """TensorBoard, or nothing where it is not installed."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._writer: Any = None
        else:
            self._writer = SummaryWriter(str(folder))

    def add(self, row: Row) -> None:
        """The figures of an epoch."""
        if self._writer is not None:
            for name, value in row.items():
                self._writer.add_scalar(name, value, row["epoch"])
            self._writer.flush()
