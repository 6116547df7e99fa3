"""Tables of text, in columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Column(NamedTuple):
    """Column of a table: its heading and its cells."""

    heading: str
    cells: Sequence[str]
    right: bool = False
    """Whether the cells are aligned to the right."""


def text_table(columns: Sequence[Column]) -> str:
    """Return the columns side by side, as wide as they need to be.

    Example:
        >>> print(text_table([Column("n", ["1", "10"], right=True), Column("word", ["cat", "dog"])]))
         n  word
         1  cat
        10  dog
    """
    padded = []
    for heading, cells, right in columns:
        lines = [heading, *cells]
        width = max(map(len, lines))
        padded.append([line.rjust(width) if right else line.ljust(width) for line in lines])
    return "\n".join("  ".join(row).rstrip() for row in zip(*padded, strict=True))
