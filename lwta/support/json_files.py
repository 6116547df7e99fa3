"""Conversion of findings to JSON, and JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with None in the place of NaN, which JSON does not have.

    Example:
        >>> without_nan({"wins": 0, "score": float("nan")})
        {'wins': 0, 'score': None}
    """
    return {name: None if value != value else value for name, value in values.items()}


def as_json(findings: Any) -> str:
    """Return findings as JSON text, indented, with a line feed at the end; letters of all scripts stay as they are."""
    return json.dumps(findings, indent=2, ensure_ascii=False) + "\n"


def write_json(findings: Any, path: str | Path) -> None:
    """Write findings to a JSON file in UTF-8, as `as_json` formats them.

    Raises:
        OSError: the file cannot be written.
    """
    Path(path).write_text(as_json(findings), encoding="utf-8")
