"""Text: lists of names from files, and phrases for messages and the terminal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal obeys instead of showing them: controls but for the line feed, line separators, overrides
of the direction of writing, and the surrogates that stand for bytes of names that are not UTF-8."""


def printable(text: str) -> str:
    r"""Return the text on one line, with escapes such as ``\x1b`` for the characters that a terminal would obey.

    Example:
        >>> print(printable("\x1b[31mred\ttwo\n"))
        \x1b[31mred\ttwo\n
    """
    return printable_lines(text).replace("\n", "\\n")


def printable_lines(text: str) -> str:
    """Return the text as `printable` shows it, with its line feeds as they are."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def some(names: Sequence[str], shown: int = 5) -> str:
    """Return the first few of the names, quoted."""
    quoted = ", ".join(repr(name) for name in names[:shown])
    return f"{quoted}, …" if len(names) > shown else quoted


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return the end of a message on an unknown name: the choices close to it, or an empty text."""
    close = get_close_matches(name, list(choices), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def read_lines(path: str | Path) -> list[str]:
    r"""Return the names in a text file in UTF-8, one a line, without blanks around them; empty lines are left out.

    Lines end with ``\n``, ``\r\n`` or ``\r`` and nothing else: any other separator is part of a name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not UTF-8 text.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")  # all ends of lines are read as this one
    except UnicodeDecodeError as error:
        raise ValueError(f"path must be a text file in UTF-8, one name a line; {path}: {error}") from None
    return [stripped for line in lines if (stripped := line.strip())]


def normal_spelling(name: str) -> str:
    """Return a name in normal spelling: without differences of case, underscores, hyphens and blanks.

    Example:
        >>> normal_spelling("Polar_Bear"), normal_spelling(" tree-frog ")
        ('polar bear', 'tree frog')
    """
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())
