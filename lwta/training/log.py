"""Log of a run while it goes on: a progress bar, a table, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lwta.support.files import write_atomically

Row = dict[str, float | int]
"""Figures of an epoch by name."""


def write_table(rows: list[Row], path: Path) -> None:
    """Write the rows of all epochs as CSV, in place of the file that exists."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: round(value, 6) for name, value in row.items()} for row in rows)
    write_atomically(path, lambda temporary: temporary.write_text(text.getvalue(), encoding="utf-8"))


def bar_text(row: Row) -> dict[str, str]:
    """Return the figures of an epoch that the progress bar shows, as text."""
    shown = {
        "test": ("test_top1", ".1%"),
        "active": ("active", ".1%"),
        "entropy": ("entropy", ".2f"),
        "dead": ("dead", "d"),
    }
    return {name: format(row[column], form) for name, (column, form) in shown.items() if column in row}


class Board:
    """Board of TensorBoard's curves; where TensorBoard is not installed, it does nothing.

    Args:
        folder: folder of the curves.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._writer: Any = None
        else:
            self._writer = SummaryWriter(str(folder))

    def add(self, row: Row) -> None:
        """Add the figures of an epoch."""
        if self._writer is not None:
            for name, value in row.items():
                self._writer.add_scalar(name, value, row["epoch"])
            self._writer.flush()
