"""Words: of files, and for messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path


def some(names: Sequence[str], shown: int = 5) -> str:
    """The first few of the names, quoted."""
    quoted = ", ".join(repr(name) for name in names[:shown])
    return f"{quoted}, …" if len(names) > shown else quoted


def repeated(names: Iterable[str]) -> list[str]:
    """Those of the names that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """End of a message on a name that is none of the choices: those close to it, or nothing."""
    close = get_close_matches(name, list(choices), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def read_lines(path: str | Path) -> list[str]:
    """What a text file in UTF-8 names, a thing a line; empty lines are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not UTF-8 text.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"path must be a text file in UTF-8, one name a line; {path}: {error}") from None
    return [stripped for line in lines if (stripped := line.strip())]
