"""Conversion of findings to JSON, to cells of a spreadsheet, and to files."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lwta.support.files import write_atomically
from lwta.support.text import CONTROL

FORMULA = re.compile(r"'*(?:[\t\r\n]|\s*[=+\-@＝＋－＠])")
"""Beginning of a text that a spreadsheet would run, or of one that `escaped_cell` made of such a text."""


def without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with None in the place of NaN, which JSON does not have.

    Example:
        >>> without_nan({"wins": 0, "score": float("nan")})
        {'wins': 0, 'score': None}
    """
    return {name: None if value != value else value for name, value in values.items()}


def as_json(findings: Any) -> str:
    r"""Return findings as indented JSON with a line feed at the end; letters of any script stay, controls are escaped.

    Bytes of a file's name that are not UTF-8 are escaped too, as the surrogates by which Python holds them.

    Example:
        >>> as_json("dög\udce9")
        '"dög\\udce9"\n'
    """
    text = json.dumps(findings, indent=2, ensure_ascii=False) + "\n"
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_json(findings: Any, path: str | Path) -> None:
    """Write findings to a JSON file in UTF-8, as `as_json` formats them.

    Raises:
        OSError: the file cannot be written; the message names it.
    """
    write_file(path, as_json(findings))


def as_csv(rows: Iterable[Iterable[str]]) -> str:
    """Return rows of cells as CSV, quoted where they must be, with a line feed at the end of each row."""
    return "".join(",".join(map(_quoted, row)) + "\n" for row in rows)


def _quoted(cell: str) -> str:
    """Quote a cell where it must be: unlike `csv.writer` before Python 3.13, also around a lone carriage return."""
    return '"' + cell.replace('"', '""') + '"' if set(cell) & set('",\r\n') else cell


def escaped_cell(text: str) -> str:
    """Return the text, with an apostrophe before it if a spreadsheet would run it as a formula.

    That is a text that begins, behind blanks if there are any, with one of ``= + - @``, or with a tab or the end of a
    line. One that is such a text behind apostrophes of its own gets one more, so that `unescaped_cell` is exact.

    Example:
        >>> escaped_cell("=1+1"), escaped_cell("'=1+1"), escaped_cell("'tis a dog")
        ("'=1+1", "''=1+1", "'tis a dog")
    """
    return f"'{text}" if FORMULA.match(text) else text


def unescaped_cell(cell: str) -> str:
    """Return the text of which `escaped_cell` made the cell.

    Example:
        >>> unescaped_cell("'=1+1"), unescaped_cell("'tis a dog")
        ('=1+1', "'tis a dog")
    """
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def write_file(path: str | Path, text: str) -> None:
    r"""Write a file in UTF-8: whole or not at all, if it is a regular file or a new one; its folder is made.

    Devices, pipes and what a link leads to are written as they are. Surrogates are written as escapes such as
    ``\udce9``.

    Raises:
        OSError: the file cannot be written; the message names it.
    """
    path, data = Path(path), text.encode("utf-8", "backslashreplace")
    try:
        if _is_regular(path):
            write_atomically(path, lambda temporary: temporary.write_bytes(data), durable=False)
        else:
            path.write_bytes(data)
    except OSError as error:
        if error.errno is None or _is_elsewhere(error.filename, path):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from None  # not its temporary name, or none


def _is_regular(path: Path) -> bool:
    """Whether the path is a regular file, or nothing yet; a link is neither, as /dev/stdout may lead to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return True


def _is_elsewhere(named: Any, path: Path) -> bool:
    """Whether an error names a file or folder that is not in the folder of the path."""
    return named is not None and Path(named).parent != path.parent
