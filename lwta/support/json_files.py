"""Findings as what JSON can hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """None in the place of NaN, which JSON does not know.

    Example:
        >>> without_nan({"wins": 0, "score": float("nan")})
        {'wins': 0, 'score': None}
    """
    return {name: None if value != value else value for name, value in values.items()}


def as_json(findings: Any) -> str:
    """Indented, with a line feed at the end; words as they are, in whatever script."""
    return json.dumps(findings, indent=2, ensure_ascii=False) + "\n"


def write_json(findings: Any, path: str | Path) -> None:
    """Write `as_json` as UTF-8."""
    Path(path).write_text(as_json(findings), encoding="utf-8")
