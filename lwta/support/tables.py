"""Tables of text, in columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from unicodedata import combining, east_asian_width

from lwta.support.text import printable


class Column(NamedTuple):
    """Column of a table: its heading and its cells."""

    heading: str
    cells: Sequence[str]
    right: bool = False
    """Whether the cells are aligned to the right."""


def text_table(columns: Sequence[Column]) -> str:
    """Return the columns side by side, as wide as they need, each cell on one line as `printable` shows it.

    Example:
        >>> print(text_table([Column("n", ["1", "10"], right=True), Column("word", ["cat", "dog"])]))
         n  word
         1  cat
        10  dog
    """
    padded = []
    for heading, cells, right in columns:
        lines = [printable(line) for line in (heading, *cells)]
        width = max(map(_width, lines))
        blanks = [" " * (width - _width(line)) for line in lines]
        padded.append([blank + line if right else line + blank for line, blank in zip(lines, blanks, strict=True)])
    return "\n".join("  ".join(row).rstrip() for row in zip(*padded, strict=True))


def _width(text: str) -> int:
    """Width of a text in a terminal: two for a wide character of East Asia, none for a mark on one."""
    return len(text) if text.isascii() else sum(_places(character) for character in text)


def _places(character: str) -> int:
    return 0 if combining(character) else 1 + (east_asian_width(character) in "WF")
